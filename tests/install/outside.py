# SPDX-License-Identifier: MIT
"""Loads the library at the path given, as a plug-in would, and passes a message through it."""

import ctypes
import sys

library = ctypes.CDLL(sys.argv[1])
library.vrd_receive.restype = ctypes.c_ssize_t
library.vrd_version.restype = ctypes.c_char_p
cap = ctypes.c_uint64

send, receive = cap(), cap()
assert library.vrd_channel_create(ctypes.c_size_t(16), ctypes.byref(send), ctypes.byref(receive)) == 0

text = b"from python"
assert library.vrd_send(send, text, ctypes.c_size_t(len(text))) == 0
buffer = ctypes.create_string_buffer(64)
assert library.vrd_receive(receive, buffer, ctypes.c_size_t(64)) == len(text)
assert buffer.value == text

assert library.vrd_cap_close(send) == 0
assert library.vrd_cap_close(receive) == 0
print(library.vrd_version().decode(), buffer.value.decode())
