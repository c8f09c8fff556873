#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Merges what the benchmark programs wrote and prints one table of ratios.

A row compares within one state of the machine only (the distance of the two CPUs; near if it can).
Time rows: our time divided by theirs, less is better. Rate rows: our rate divided by theirs, more is
better. The cell that a target is about is marked with a star.
"""

import json
import sys

REFERENCES = ["bare", "bare ring", "ck_ring", "boost spsc_queue", "pipe", "unix stream", "unix seqpacket",
              "posix mq", "sysv msg", "eventfd + shm", "zeromq", "vmsplice", "memfd", "iceoryx"]
HEADERS = ["bare", "ring", "ck_ring", "boost", "pipe", "u-stream", "u-seqp", "posixmq", "sysvmsg", "eventfd", "zeromq", "vmsplice", "memfd", "iceoryx"]
# What counts as bare where the hand-off itself is not the measure.
BARE = {"throughput": "bare ring", "throughput_fresh": "bare ring", "wakeup": "bare futex",
        "one_cpu": "bare futex"}
STATES = ["near", "nearest", "middle", "far", "one_cpu"]
ENOUGH_ROUNDS = 3
AERON_4K_MILLION_PER_S = 2.1
LENT_MORE_NS = 50


def load(paths):
    """{contest: {transport: {state: metrics}}} and the merged Google Benchmark documents."""
    results, merged = {}, {"context": {}, "benchmarks": []}
    for path in paths:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        merged["context"] = document["context"]
        merged["benchmarks"] += document["benchmarks"]
        for entry in document["benchmarks"]:
            parts = entry["name"].split("/")
            if parts[0] == "setup":
                results.setdefault("setup", {})["/".join(parts[1:3])] = entry
            else:
                contest = "/".join(parts[:2])
                metrics = dict(entry, ns=entry["real_time"])
                results.setdefault(contest, {}).setdefault(parts[2], {})[parts[3]] = metrics
    return results, merged


def pick_state(ours, reference):
    for state in STATES:
        both = (ours.get(state), reference.get(state))
        if all(m and m["rounds"] >= ENOUGH_ROUNDS for m in both):
            return state
    return None


class Table:
    def __init__(self):
        self.rows = []

    def add(self, what, ours, ratios, target="", reached=None, state=""):
        self.rows.append({"what": what, "ours": ours, "ratios": ratios, "target": target,
                          "reached": reached, "state": state})

    def show(self):
        head = ["", "ours"] + HEADERS + ["target", "reached", "CPUs"]
        lines = [head]
        for row in self.rows:
            verdict = {True: "yes", False: "NO", None: ""}[row["reached"]]
            cells = [row["ratios"].get(name, "") for name in REFERENCES]
            lines.append([row["what"], row["ours"]] + cells + [row["target"], verdict, row["state"]])
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        for line in lines:
            print("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w)
                            for i, (cell, w) in enumerate(zip(line, widths))).rstrip())


def time_text(ns):
    return f"{ns:.0f} ns" if ns < 10000 else f"{ns / 1000:.1f} us"


def rate_text(ns):
    return f"{1e3 / ns:.1f} M/s" if ns < 1000 else f"{1e3 / ns:.3f} M/s"


def ratio_text(ratio):
    return f"1/{1 / ratio:.0f}" if ratio < 0.1 else f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"


def compare(table, results, contest, label, metric="ns", rate=False, ours="veridian",
            target=None, bound=None):
    """One row: ours against each reference. The target is about ratios[target] and its bound."""
    group = results.get(contest)
    if not group or ours not in group:
        return
    bare = BARE.get(contest.split("/")[0], "bare")
    mine, ratios, values, states = group[ours], {}, {}, []
    for reference in REFERENCES + ["veridian", "memcpy"]:
        theirs = group.get(bare if reference == "bare" else reference)
        if not theirs or reference == ours or (reference == bare and reference != "bare"):
            continue
        state = pick_state(mine, theirs)
        if not state:
            continue
        states.append(state)
        ratio = mine[state][metric] / theirs[state][metric]
        values[reference] = 1 / ratio if rate else ratio
        ratios[reference] = ratio_text(values[reference]) + ("*" if reference == target else "")
        if reference == target:
            states.insert(0, state)
    state = states[0] if states else max(mine, key=lambda s: mine[s]["rounds"])
    reached, text = None, ""
    if target and target in values:
        reached = values[target] >= bound if rate else values[target] <= bound
        names = {"veridian": "single calls", "memcpy": "memcpy", "bare": bare}
        text = f"{'>=' if rate else '<='} {bound:g} x {names.get(target, target)}"
        if target not in REFERENCES:
            text += f": {values[target]:.2f}"
    number = rate_text(mine[state][metric]) if rate else time_text(mine[state][metric])
    table.add(label, number, ratios, text, reached, state)


def absolute(table, label, value, text, bound):
    table.add(label, text(value), {}, f"<= {text(bound)}", value <= bound)


def build(results):
    table = Table()
    for size in (8, 56, 64, 256, 1024, 4096, 65536):
        small = size <= 64
        compare(table, results, f"latency/{size}", f"round trip p50, {size} B",
                target="bare" if small else None, bound=1.10)
    for size in (8, 56, 64, 1024, 65536):
        compare(table, results, f"call/{size}", f"call and reply p50, {size} B",
                target="bare" if size <= 64 else None, bound=1.25)
    for metric, name in (("p99", "p99"), ("p999", "p99.9")):
        compare(table, results, "latency/64", f"round trip {name}, 64 B", metric=metric,
                target="bare" if metric == "p99" else None, bound=1.5)
    for size in (8, 32, 56, 64, 256, 1024, 4096, 65536, 1048576):
        target, bound = ("ck_ring", 1) if size <= 64 else ("memcpy", 0.9) if size >= 4096 else (None, 0)
        compare(table, results, f"throughput/{size}", f"stream, {size} B", rate=True,
                target=target, bound=bound)
    for size in (8, 32, 56, 64, 256):
        compare(table, results, f"throughput/{size}", f"stream in batches, {size} B", rate=True,
                ours="veridian batch", target="veridian" if size <= 64 else None, bound=1.3)
    for size in (32, 56, 64):
        compare(table, results, f"throughput_fresh/{size}", f"stream, just written, {size} B", rate=True)
    compare(table, results, "wakeup/64", "wake a sleeper, other CPU", target="bare", bound=1.10)
    compare(table, results, "one_cpu/64", "round trip on one CPU", target="pipe", bound=0.6)
    for size in (4096, 65536, 1 << 20, 4 << 20):
        compare(table, results, f"zero_copy/{size}", f"lent, 64 B back, {size} B", target="iceoryx", bound=1)
        compare(table, results, f"zero_copy/{size}", f"copied, 64 B back, {size} B", ours="copied")
    add_flat(table, results)
    add_aeron(table, results)
    add_fan_in(table, results.get("fan_in/64", {}), "1 links", "round trip")
    add_fan_in(table, results.get("call_fan_in/64", {}), "veridian", "call and reply")
    add_setup(table, results.get("setup", {}))
    return table


def add_aeron(table, results):
    """An absolute floor, known from elsewhere: Aeron's best with 4 KiB messages."""
    series = results.get("throughput/4096", {}).get("veridian", {})
    for state in STATES:
        if state in series and series[state]["rounds"] >= ENOUGH_ROUNDS:
            rate, floor = 1e3 / series[state]["ns"], 2 * AERON_4K_MILLION_PER_S
            table.add("stream, 4096 B", f"{rate:.1f} M/s", {}, f">= {floor:g} M/s", rate >= floor, state)
            return


def add_flat(table, results):
    """What is lent costs the same at any size: the first and the last line, and a page of each, apart."""
    small = results.get("zero_copy/64", {}).get("veridian", {})
    for size in (4096, 65536, 1 << 20, 4 << 20, 64 << 20, 1 << 30):
        series = results.get(f"zero_copy/{size}", {}).get("veridian", {})
        state = pick_state(series, small)
        if state:
            more = series[state]["ns"] - 1.1 * small[state]["ns"]
            table.add(f"lent, {size} B", time_text(series[state]["ns"]), {},
                      f"<= 1.1 x 64 B + {LENT_MORE_NS} ns: + {more:.0f}", more <= LENT_MORE_NS, state)


def add_fan_in(table, group, alone, what):
    """The same with one link and with many: flat, or nearly."""
    one = group.get(alone, {})
    for name, series in group.items():
        state = pick_state(series, one)
        if name == alone or not state:
            continue
        ratio = series[state]["ns"] / one[state]["ns"]
        table.add(f"{what}, {name}, one active", time_text(series[state]["ns"]), {},
                  f"<= 1.1 x one: {ratio:.2f}", ratio <= 1.1, state)


def add_setup(table, setup):
    def ns(name):
        return setup[name]["real_time"]

    for what in ("create_close", "create_use_close"):
        if f"{what}/veridian" in setup and f"{what}/unix seqpacket" in setup:
            ratio = ns(f"{what}/veridian") / ns(f"{what}/unix seqpacket")
            table.add(what.replace("_", ", "), time_text(ns(f"{what}/veridian")),
                      {"unix seqpacket": f"{ratio:.3g}"})
    for row, when in (("connect_call", "now and then"), ("connect_call_at_once", "again and again")):
        if f"{row}/veridian" in setup and f"{row}/unix seqpacket" in setup:
            took = setup[f"{row}/veridian"]["p50"]
            ratio = took / setup[f"{row}/unix seqpacket"]["p50"]
            table.add(f"connect by name to first reply, {when}", time_text(took),
                      {"unix seqpacket": f"{ratio:.3g}"}, "<= 150 us", took <= 150e3)
    if "revoke/veridian" in setup and "revoke/unix seqpacket" in setup:
        took = ns("revoke/veridian")
        ratio = took / ns("revoke/unix seqpacket")
        table.add("revoke 10000 descendants", time_text(took), {"unix seqpacket": f"{ratio:.3g}"},
                  "<= 50 ms", took <= 50e6)
    for row, what in (("revoke_used", "revoke 10000 links"), ("revoke_process", "revoke a process' 10000 links")):
        if f"{row}/veridian" in setup:
            took = ns(f"{row}/veridian")
            table.add(what, time_text(took), {}, "<= 50 ms", took <= 50e6)
    if "check_capability/veridian" in setup:
        table.add("check of a capability, general way", f"{ns('check_capability/veridian'):.1f} ns", {})
    for what in ("export", "export_import_use"):
        if f"{what}/veridian" in setup:
            table.add(what.replace("_", ", "), time_text(ns(f"{what}/veridian")), {})
    for slots, most in (("16", 8192), ("64", 16384)):
        if f"idle_link/{slots}" in setup:
            entry = setup[f"idle_link/{slots}"]
            absolute(table, f"idle link, {slots} slots, both ends", entry["bytes"],
                     lambda b: f"{b / 1024:.3g} KiB", most)
            absolute(table, f"idle link, {slots} slots, both ends", entry["fds"],
                     lambda n: f"{n:.3g} fds", 4)


def main():
    output, *inputs = sys.argv[1:]
    results, merged = load(inputs)
    table = build(results)
    merged["table"] = table.rows
    with open(output, "w", encoding="utf-8") as file:
        json.dump(merged, file, indent=1)
    print(__doc__.split("\n\n")[1].strip() + "\n")
    table.show()


if __name__ == "__main__":
    main()
