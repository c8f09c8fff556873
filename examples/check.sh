#!/bin/sh
# Runs an example and checks what it did. FOLDER is where the programs are.
#   check.sh FOLDER hello
#   check.sh FOLDER producer_consumer
#   check.sh FOLDER frames
#   check.sh FOLDER client_server        two clients, one of them there before the server
#   check.sh FOLDER event_loop           the same, and a signal that ends the server
#   check.sh FOLDER thread_pool          eight clients of four endpoints
#   check.sh FOLDER database [OPTIONS]   readers that check each value while the writer updates
#   check.sh FOLDER move BYTES MESSAGE   moves a random file through the pipeline, in MESSAGE bytes
#   check.sh FOLDER kill STAGE           kills a stage while all three wait for messages
#   check.sh FOLDER choke STAGE          stops a stage until the others wait for it, and kills it
set -eu

folder=$1
what=$2
limit="timeout -k 1 ${CHECK_SECONDS:-60}"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/tmp"
export TMPDIR="$scratch/tmp"

fail() {
    echo "check.sh: $*" >&2
    cat "$scratch"/*.txt >&2 || true
    exit 1
}

# Nothing may be left in the folder for temporary files.
check_tidy() {
    [ -z "$(ls -A "$TMPDIR")" ] || fail "files left behind: $(ls -A "$TMPDIR")"
}

check_hello() {
    $limit "$folder/hello" > "$scratch/out.txt" || fail "hello failed"
    [ "$(cat "$scratch/out.txt")" = "Hello from the other process" ] || fail "no greeting"
}

check_producer_consumer() {
    $limit "$folder/producer_consumer" > "$scratch/out.txt" || fail "producer_consumer failed"
    grep -q '^200000 squares' "$scratch/out.txt" || fail "squares are missing"
}

check_frames() {
    $limit "$folder/frames" > "$scratch/out.txt" || fail "frames failed"
    [ "$(cat "$scratch/out.txt")" = "100 frames of 8 MiB" ] || fail "frames are missing"
}

check_client_server() {
    export VERIDIAN_RUNTIME_DIR="$scratch/run"
    $limit "$folder/client_server/client" shout early bird > "$scratch/early.txt" &
    early=$!
    $limit "$folder/client_server/server" shout 4 > "$scratch/server.txt" &
    server=$!
    $limit "$folder/client_server/client" shout a "b c" > "$scratch/out.txt" || fail "no answer"
    wait "$early" || fail "the early client got no answer"
    wait "$server" || fail "the server failed"
    [ "$(cat "$scratch/out.txt")" = "$(printf 'A\nB C')" ] || fail "a wrong answer"
    [ "$(cat "$scratch/early.txt")" = "$(printf 'EARLY\nBIRD')" ] || fail "an early wrong answer"
    [ -z "$(ls -A "$VERIDIAN_RUNTIME_DIR")" ] || fail "the name is left behind"
}

check_event_loop() {
    export VERIDIAN_RUNTIME_DIR="$scratch/run"
    $limit "$folder/client_server/client" shout early bird > "$scratch/early.txt" &
    early=$!
    "$folder/client_server/event_loop" shout &
    server=$!
    $limit "$folder/client_server/client" shout a "b c" > "$scratch/out.txt" || fail "no answer"
    wait "$early" || fail "the early client got no answer"
    [ "$(ls "/proc/$server/task" | wc -l)" -eq 1 ] || fail "there is a thread"
    kill -TERM "$server"
    wait "$server" || fail "the server failed"
    [ "$(cat "$scratch/out.txt")" = "$(printf 'A\nB C')" ] || fail "a wrong answer"
    [ "$(cat "$scratch/early.txt")" = "$(printf 'EARLY\nBIRD')" ] || fail "an early wrong answer"
    $limit "$folder/client_server/event_loop" shout 2 &
    server=$!
    $limit "$folder/client_server/client" shout x y > "$scratch/out.txt" || fail "no second answer"
    wait "$server" || fail "the second server failed"
    [ -z "$(ls -A "$VERIDIAN_RUNTIME_DIR")" ] || fail "the name is left behind"
}

check_thread_pool() {
    export VERIDIAN_RUNTIME_DIR="$scratch/run"
    $limit "$folder/client_server/thread_pool" 24 one two three four &
    server=$!
    clients=
    for name in one two three four one two three four; do
        $limit "$folder/client_server/client" "$name" "$name" b c > "$scratch/$name.txt" &
        clients="$clients $!"
    done
    for client in $clients; do
        wait "$client" || fail "a client got no answer"
    done
    wait "$server" || fail "the server failed"
    [ "$(cat "$scratch/three.txt")" = "$(printf 'THREE\nB\nC')" ] || fail "a wrong answer"
    [ -z "$(ls -A "$VERIDIAN_RUNTIME_DIR")" ] || fail "a name is left behind"
}

check_database() {
    $limit "$folder/database/database" "$@" > "$scratch/out.txt" || fail "database failed"
    grep -q 'reads/s, 0 wrong$' "$scratch/out.txt" || fail "no figures"
}

check_move() {
    head -c "$1" /dev/urandom > "$scratch/in"
    $limit "$folder/pipeline/pipeline" -r 1 -m "$2" -o "$scratch/moved" "$scratch/in" \
        > "$scratch/out.txt" 2> "$scratch/err.txt" || fail "the pipeline failed"
    cmp "$scratch/in" "$scratch/moved" || fail "the file has changed"
    [ ! -s "$scratch/err.txt" ] || fail "complaints"
    grep -q 'gain' "$scratch/out.txt" || fail "no figures"
}

pid_of() {
    sed -n "s/^pipeline: $1 is process //p" "$scratch/err.txt"
}

# Starts the pipeline with these options and returns when its programs are there.
start() {
    truncate -s 16G "$scratch/in"
    $limit "$folder/pipeline/pipeline" -v -r 1 -t veridian "$@" "$scratch/in" \
        > "$scratch/out.txt" 2> "$scratch/err.txt" &
    launcher=$!
    until [ -n "$(pid_of writer)" ]; do
        kill -0 "$launcher" || fail "the pipeline did not start"
        sleep 0.02
    done
    stages="$(pid_of reader) $(pid_of transformer) $(pid_of writer)"
}

# After the death of a stage the others end by themselves, and say why.
check_death() {
    status=0
    wait "$launcher" || status=$?
    [ "$status" -eq 1 ] || fail "exit status $status after a stage was killed"
    grep -q "the $1 was killed by signal 9" "$scratch/err.txt" || fail "the death went unnoticed"
    for other in reader transformer writer; do
        [ "$other" = "$1" ] || grep -q "the $other failed" "$scratch/err.txt" ||
            fail "the $other did not end with an error"
    done
    for pid in $stages; do
        ! kill -0 "$pid" 2> "$scratch/gone.txt" || fail "process $pid is left"
    done
}

check_kill() {
    start -p paced -R 10
    sleep 0.5
    kill -KILL "$(pid_of "$1")" || fail "the $1 had gone already"
    check_death "$1"
}

check_choke() {
    start -p saturated
    kill -STOP "$(pid_of "$1")" || fail "the $1 had gone already"
    sleep 0.5
    kill -KILL "$(pid_of "$1")"
    check_death "$1"
}

shift 2
"check_$what" "$@"
check_tidy
