#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that #include arrows point downwards and that the public headers stand alone.

    check_layers.py TREE [--cc CC] [--cxx CXX]   check the repository at TREE
    check_layers.py --self-test                  prove that each rule catches its violation

The layers are described in docs/design.md.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

# What each layer may include besides itself.
BELOW = {
    "base": [],
    "os": ["base"],
    "link": ["base", "os"],
    "cap": ["base", "os"],
    "object": ["base", "os", "link", "cap"],
    "api": ["base", "os", "link", "cap", "object"],
    "broker": ["base", "os", "cap"],
    "compat": [],
    "tool": [],
}

# These are programs and shims over the public interface and see the system like any other user.
OUTSIDE = {"compat", "tool"}

# Types, errors, rights and limits that the lower layers share with the public interface; the rest
# of it is above them.
VOCABULARY = ["types.h", "error.h", "capability.h", "channel.h", "message.h"]
ABOVE_VOCABULARY = {"object", "api"} | OUTSIDE

# System headers that any layer may use: the language, threads, and the CPU. Everything else talks
# to the kernel and belongs in os/.
ANYWHERE = {
    "assert.h", "errno.h", "inttypes.h", "limits.h", "stdalign.h", "stdarg.h", "stdatomic.h",
    "stdbool.h", "stddef.h", "stdint.h", "stdio.h", "stdlib.h", "stdnoreturn.h", "string.h",
    "time.h", "pthread.h", "cpuid.h", "immintrin.h", "x86intrin.h", "arm_acle.h", "arm_neon.h",
    "sys/types.h",
}

IN_PUBLIC_HEADERS = {"stdint.h", "stddef.h", "stdbool.h", "sys/types.h"}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include\b[ \t]*(?:<([^>]+)>|"([^"]+)"|(.*))', re.MULTILINE)
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)

STRICT = ["-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only"]


def code_of(path):
    """The file without its comments, each replaced by its newlines so that line numbers hold."""
    return COMMENT.sub(lambda match: "\n" * match.group().count("\n") or " ", path.read_text())


def includes_of(path):
    """Yields (line, system header or None, own header or None) of each #include."""
    code = code_of(path)
    for match in INCLUDE.finditer(code):
        yield code.count("\n", 0, match.start()) + 1, match.group(1), match.group(2)


def layer_violation(layer, system, own):
    """Says what is wrong with an #include in that layer, or None."""
    if own is not None:
        target = own.split("/")[0]
        if "/" not in own or ".." in own or target not in BELOW:
            return f'"{own}" is not written as "layer/file.h"'
        if target != layer and target not in BELOW[layer]:
            return f'"{own}": {layer}/ may not include {target}/'
        return None
    if system is None:
        return "an #include whose name is a macro cannot be checked"
    if system.startswith("veridian/"):
        if layer not in ABOVE_VOCABULARY and system.removeprefix("veridian/") not in VOCABULARY:
            return f"<{system}> is above {layer}/"
        return None
    if layer not in OUTSIDE | {"os", "broker"} and system not in ANYWHERE:
        return f"<{system}> talks to the kernel and belongs in os/"
    return None


def check_sources(tree):
    sources = [p for p in sorted(tree.glob("src/**/*")) if p.suffix in {".c", ".h", ".inc"}]
    for path in sources:
        layer = path.relative_to(tree / "src").parts[0]
        where = path.relative_to(tree)
        if layer not in BELOW:
            yield f"{where}: not in a layer"
            continue
        for line, system, own in includes_of(path):
            violation = layer_violation(layer, system, own)
            if violation:
                yield f"{where}:{line}: {violation}"
    if not sources:
        yield "src/: no sources"


def check_header_text(tree, headers):
    included = {system for _, system, _ in includes_of(tree / "include/veridian/ipc.h")}
    for path in headers:
        where = path.relative_to(tree)
        for line, system, own in includes_of(path):
            if own is not None:
                yield f'{where}:{line}: "{own}" should be <veridian/...>'
            elif system is None:
                yield f"{where}:{line}: an #include whose name is a macro cannot be checked"
            elif system not in IN_PUBLIC_HEADERS and not system.startswith("veridian/"):
                yield f"{where}:{line}: <{system}> in a public header"
        if re.search(r"\b_Atomic\b", code_of(path)):
            yield f"{where}: _Atomic is not C++"
        if path.name != "ipc.h" and f"veridian/{path.name}" not in included:
            yield f"{where}: not included by ipc.h"


def check_header_alone(tree, header, compiler, language, standard):
    """Compiles a file that holds nothing but the header, twice: its guard must work too."""
    name = f"veridian/{header.name}"
    command = [compiler, "-x", language, f"-std={standard}", *STRICT, f"-I{tree}/include", "-"]
    text = f"#include <{name}>\n#include <{name}>\n"
    result = subprocess.run(command, input=text, text=True, capture_output=True, timeout=60)
    if result.returncode != 0:
        yield f"include/{name}: not clean as {standard}:\n{result.stderr}"


def check_tree(tree, cc, cxx):
    yield from check_sources(tree)
    headers = sorted(tree.glob("include/veridian/*.h"))
    if not (tree / "include/veridian/ipc.h").exists():
        yield "include/veridian/ipc.h: missing"
        return
    yield from check_header_text(tree, headers)
    for header in headers:
        yield from check_header_alone(tree, header, cc, "c", "c11")
        yield from check_header_alone(tree, header, cxx, "c++", "c++17")


# ---- self-test ------------------------------------------------------------------------------------

GOOD = {
    "src/base/list.h": "#include <stdint.h>\n#include <veridian/error.h>\n",
    "src/os/memfd.c": '#include "base/list.h"\n#include "os/memfd.h"\n#include <sys/mman.h>\n',
    "src/os/memfd.h": "",
    "src/link/ring.c": '#include "os/memfd.h"\n/* #include "api/send.h" */\n',
    "src/object/channel.c": '#include "link/ring.h"\n#include <veridian/channel.h>\n',
    "src/api/send.c": '#include "object/channel.h"\n',
    "src/tool/main.c": "#include <unistd.h>\n#include <veridian/ipc.h>\n",
    "include/veridian/ipc.h": "#include <veridian/error.h>\n#include <veridian/channel.h>\n",
    "include/veridian/error.h": "#include <stdint.h>\ntypedef int32_t vrd_error_t;\n",
    "include/veridian/channel.h": "#include <stddef.h>\nint vrd_open(size_t slots);\n",
}
INCLUDES_ALL = GOOD["include/veridian/ipc.h"] + "#include <veridian/more.h>\n"

# One file more or other than in GOOD, and a part of the complaint that it must cause.
BAD = [
    ({"src/base/list.c": '#include "os/memfd.h"\n'}, "base/ may not include os/"),
    ({"src/link/ring.c": '#include "object/channel.h"\n'}, "link/ may not include object/"),
    ({"src/link/ring.c": '#include "cap/rights.h"\n'}, "link/ may not include cap/"),
    ({"src/cap/frame.c": '# include "link/ring.h"\n'}, "cap/ may not include link/"),
    ({"src/object/channel.h": '#include "api/gate.h"\n'}, "object/ may not include api/"),
    ({"src/broker/main.c": '#include "object/channel.h"\n'}, "broker/ may not include object/"),
    ({"src/tool/main.c": '#include "base/list.h"\n'}, "tool/ may not include base/"),
    ({"src/link/ring.c": "#include <sys/mman.h>\n"}, "belongs in os/"),
    ({"src/object/channel.c": "#include <unistd.h>\n"}, "belongs in os/"),
    ({"src/api/send.c": "#include <linux/futex.h>\n"}, "belongs in os/"),
    ({"src/object/reactor.c": "#include <liburing.h>\n"}, "belongs in os/"),
    ({"src/link/ring.c": "#include <veridian/ipc.h>\n"}, "is above link/"),
    ({"src/link/ring.c": '#include "ring.h"\n'}, "not written as"),
    ({"src/link/ring.c": '#include "os/../api/gate.h"\n'}, "not written as"),
    ({"src/link/ring.c": '#define H "api/gate.h"\n#include H\n'}, "macro"),
    ({"src/misc/x.c": ""}, "not in a layer"),
    ({"include/veridian/channel.h": "#include <unistd.h>\n"}, "in a public header"),
    ({"include/veridian/channel.h": '#include "error.h"\n'}, "should be <veridian/...>"),
    ({"include/veridian/channel.h": "extern _Atomic int vrd_x;\n"}, "_Atomic"),
    ({"include/veridian/more.h": "int vrd_more(void);\n"}, "not included by ipc.h"),
    ({"include/veridian/channel.h": "int vrd_open(size_t slots);\n"}, "not clean as c11"),
    ({"include/veridian/channel.h": "int vrd_open(int class);\n"}, "not clean as c++17"),
    (
        {"include/veridian/more.h": "struct vrd_more { int x; };\n",
         "include/veridian/ipc.h": INCLUDES_ALL},
        "not clean as c11",
    ),
]


def check_files(files, cc, cxx):
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder)
        for name, text in files.items():
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return list(check_tree(tree, cc, cxx))


def self_test(cc, cxx):
    complaints = check_files(GOOD, cc, cxx)
    if complaints:
        yield "the good tree was refused:\n  " + "\n  ".join(complaints)
    for change, expected in BAD:
        complaints = check_files(GOOD | change, cc, cxx)
        if not any(expected in complaint for complaint in complaints):
            yield f"{change} went through; complaints: {complaints}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tree", nargs="?", type=pathlib.Path)
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--cc", default="cc")
    parser.add_argument("--cxx", default="c++")
    arguments = parser.parse_args()
    if arguments.self_test == (arguments.tree is not None):
        parser.error("give a tree or --self-test")

    if arguments.self_test:
        failures = list(self_test(arguments.cc, arguments.cxx))
    else:
        failures = list(check_tree(arguments.tree.resolve(), arguments.cc, arguments.cxx))
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
