/* SPDX-License-Identifier: MIT */
#include "job.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Every descriptor that a run makes: the ends of its connections and the way back of its figures. */
enum {
    FIRST_SEND, /* reader to transformer */
    FIRST_RECEIVE,
    SECOND_SEND, /* transformer to writer */
    SECOND_RECEIVE,
    ANSWER_SEND, /* writer to reader */
    ANSWER_RECEIVE,
    FIGURES_WRITE, /* writer to this process */
    FIGURES_READ,
    N_ENDS
};

static void end_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static bool ends_create(const struct job *job, int ends[N_ENDS])
{
    for (int i = 0; i < N_ENDS; i++)
        ends[i] = -1;

    int err = transport_create(job->kind, job->slots, job->message_size, &ends[FIRST_SEND],
                               &ends[FIRST_RECEIVE]);
    if (err == VRD_OK)
        err = transport_create(job->kind, job->slots, job->message_size, &ends[SECOND_SEND],
                               &ends[SECOND_RECEIVE]);
    if (err == VRD_OK)
        err = transport_create(job->kind, 1, MESSAGE_HEADER, &ends[ANSWER_SEND],
                               &ends[ANSWER_RECEIVE]);
    if (err < 0) {
        fprintf(stderr, "pipeline: cannot make a connection: %s\n", vrd_strerror(err));
        return false;
    }

    int figures[2];
    if (pipe2(figures, O_CLOEXEC) < 0) {
        fprintf(stderr, "pipeline: cannot make a pipe: %s\n", strerror(errno));
        return false;
    }
    ends[FIGURES_READ] = figures[0];
    ends[FIGURES_WRITE] = figures[1];
    return true;
}

/* ---- the programs ------------------------------------------------------------------------------ */

/* A command line, and the descriptors that its program inherits. */
struct command {
    const char *program;
    char words[16][24];
    size_t n_words;
    posix_spawn_file_actions_t actions;
};

static void command_add_word(struct command *command, const char *word)
{
    snprintf(command->words[command->n_words++], sizeof(command->words[0]), "%s", word);
}

static void command_add(struct command *command, const char *flag, uint64_t value)
{
    char word[24];
    snprintf(word, sizeof(word), "%s%" PRIu64, flag, value);
    command_add_word(command, word);
}

/* `dup2` of a descriptor onto itself clears close-on-exec, in this program only. */
static void command_add_fd(struct command *command, const char *flag, int fd)
{
    command_add(command, flag, (uint64_t)fd);
    posix_spawn_file_actions_adddup2(&command->actions, fd, fd);
}

static void command_begin(struct command *command, const struct job *job, const char *program)
{
    command->program = program;
    command->n_words = 0;
    posix_spawn_file_actions_init(&command->actions);
    command_add_word(command, "-t");
    command_add_word(command, transport_name(job->kind));
    command_add(command, "-m", job->message_size);
}

/* Starts the program, which lies beside this one. Returns 0 when that failed. */
static pid_t command_start(struct command *command, const struct job *job)
{
    char path[4096];
    char *argv[18] = { (char *)command->program };
    ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);
    pid_t pid = 0;

    path[length > 0 ? length : 0] = '\0';
    char *name = strrchr(path, '/');
    size_t room = name ? sizeof(path) - (size_t)(name + 1 - path) : 0;
    int err = ENAMETOOLONG;
    if (name && (size_t)snprintf(name + 1, room, "%s", command->program) < room) {
        for (size_t i = 0; i < command->n_words; i++)
            argv[i + 1] = command->words[i];
        err = posix_spawn(&pid, path, &command->actions, NULL, argv, environ);
    }
    posix_spawn_file_actions_destroy(&command->actions);
    if (err != 0) {
        fprintf(stderr, "pipeline: cannot start %s: %s\n", command->program, strerror(err));
        return 0;
    }
    if (job->verbose)
        fprintf(stderr, "pipeline: %s is process %d\n", command->program, (int)pid);
    return pid;
}

static pid_t reader_start(const struct job *job, const int ends[N_ENDS])
{
    struct command command;
    command_begin(&command, job, "reader");
    command_add_fd(&command, "-f", job->input_fd);
    command_add_fd(&command, "-o", ends[FIRST_SEND]);
    command_add_fd(&command, "-a", ends[ANSWER_RECEIVE]);
    command_add(&command, "-n", job->limit);
    command_add(&command, "-g", job->interval);
    if (job->closed_loop)
        command_add_word(&command, "-l");
    return command_start(&command, job);
}

static pid_t transformer_start(const struct job *job, const int ends[N_ENDS])
{
    struct command command;
    command_begin(&command, job, "transformer");
    command_add_fd(&command, "-i", ends[FIRST_RECEIVE]);
    command_add_fd(&command, "-o", ends[SECOND_SEND]);
    return command_start(&command, job);
}

static pid_t writer_start(const struct job *job, const int ends[N_ENDS])
{
    struct command command;
    command_begin(&command, job, "writer");
    command_add_fd(&command, "-i", ends[SECOND_RECEIVE]);
    command_add_fd(&command, "-f", job->output_fd);
    command_add_fd(&command, "-a", ends[ANSWER_SEND]);
    posix_spawn_file_actions_adddup2(&command.actions, ends[FIGURES_WRITE], STDOUT_FILENO);
    return command_start(&command, job);
}

/* ---- the outcome ------------------------------------------------------------------------------- */

/* The writer's line; it comes when the writer is done, the end of the pipe when it failed. */
static bool figures_read(int *fd, struct figures *ret)
{
    FILE *file = fdopen(*fd, "r");
    if (!file)
        return false;
    *fd = -1;
    int n = fscanf(file, "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &ret->messages,
                   &ret->bytes, &ret->elapsed_ns, &ret->p50_ns, &ret->p99_ns);
    fclose(file);
    return n == 5;
}

static bool program_wait(const char *program, pid_t pid)
{
    int status;
    if (pid == 0)
        return false;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return false;
    }
    if (WIFSIGNALED(status))
        fprintf(stderr, "pipeline: the %s was killed by signal %d\n", program, WTERMSIG(status));
    else if (WEXITSTATUS(status) != 0)
        fprintf(stderr, "pipeline: the %s failed\n", program);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* What this run was to write: the file, or what `limit` messages hold of it. */
static uint64_t bytes_wanted(const struct job *job)
{
    struct stat status;
    uint64_t size = fstat(job->input_fd, &status) == 0 ? (uint64_t)status.st_size : 0;
    uint64_t most = job->limit * (job->message_size - MESSAGE_HEADER);
    return job->limit && most < size ? most : size;
}

static bool output_check(const struct job *job, const struct figures *figures)
{
    static char input[1 << 16], output[1 << 16];
    uint64_t wanted = bytes_wanted(job);
    uint64_t at = 0;
    ssize_t n = 0;

    /* Reads on past the end of the output, which must be where it should be. */
    while ((n = pread(job->output_fd, output, sizeof(output), (off_t)at)) > 0) {
        if (pread(job->input_fd, input, (size_t)n, (off_t)at) != n ||
            memcmp(input, output, (size_t)n) != 0)
            break;
        at += (uint64_t)n;
    }
    if (n == 0 && at == wanted && figures->bytes == wanted)
        return true;
    fprintf(stderr, "pipeline: the output differs from the input after byte %" PRIu64 "\n", at);
    return false;
}

bool job_run(const struct job *job, struct figures *ret)
{
    int ends[N_ENDS];
    pid_t reader = 0, transformer = 0, writer = 0;

    if (lseek(job->input_fd, 0, SEEK_SET) < 0 || lseek(job->output_fd, 0, SEEK_SET) < 0 ||
        ftruncate(job->output_fd, 0) < 0) {
        fprintf(stderr, "pipeline: cannot rewind the files: %s\n", strerror(errno));
        return false;
    }
    if (ends_create(job, ends)) {
        reader = reader_start(job, ends);
        transformer = transformer_start(job, ends);
        writer = writer_start(job, ends);
    }
    /* The programs have them now. Who keeps an end open hides its holder's death from the others. */
    for (int i = 0; i < FIGURES_READ; i++)
        end_close(&ends[i]);

    bool told = writer && figures_read(&ends[FIGURES_READ], ret);
    end_close(&ends[FIGURES_READ]);
    bool read = program_wait("reader", reader);
    bool transformed = program_wait("transformer", transformer);
    bool written = program_wait("writer", writer);
    return told && read && transformed && written && output_check(job, ret);
}
