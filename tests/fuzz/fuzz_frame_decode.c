/* SPDX-License-Identifier: MIT */
/* Any bytes with any number of descriptors: a frame within its bounds that encodes to the same
 * bytes, or PEER_CORRUPT and an untouched output. */
#include "input.h"

#include <veridian/channel.h>
#include <veridian/error.h>

#include "cap/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = { data, size };
    const size_t n_fds = input_u8(&input);
    struct frame frame, untouched;
    uint8_t again[FRAME_SIZE];
    int result;

    memset(&frame, 0xa5, sizeof frame);
    memcpy(&untouched, &frame, sizeof frame);
    result = frame_decode(input.data, input.len, n_fds, &frame);
    if (result != 0) {
        fuzz_require(result == VRD_ERR_PEER_CORRUPT);
        fuzz_require(memcmp(&frame, &untouched, sizeof frame) == 0);
        return 0;
    }
    fuzz_require(input.len == FRAME_SIZE && n_fds <= FRAME_FDS_MAX);
    fuzz_require(frame.type >= FRAME_GREETING_SEND && frame.type <= FRAME_TYPE_MAX);
    fuzz_require(frame.slots <= VRD_CHANNEL_SLOTS_MAX);
    fuzz_require(frame.max_message <= PTRDIFF_MAX && frame.bytes <= PTRDIFF_MAX);
    frame_encode(&frame, again);
    fuzz_require(memcmp(again, input.data, sizeof again) == 0);
    return 0;
}
