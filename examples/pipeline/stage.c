/* SPDX-License-Identifier: MIT */
#include "stage.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "usage: %s -t veridian|pipe -m BYTES [-i FD] [-o FD] [-a FD] [-f FD]\n"
    "       [-n MESSAGES] [-g NS] [-l]\n"
    "One stage of the pipeline. `pipeline FILE` starts it, and passes the descriptors.\n";

_Noreturn static void misused(void)
{
    fprintf(stderr, usage, program_invocation_short_name);
    exit(2);
}

static uint64_t number_parse(const char *text)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno || end == text || *end || *text == '-')
        misused();
    return number;
}

static int fd_parse(const char *text)
{
    uint64_t number = number_parse(text);
    if (number > INT32_MAX)
        misused();
    return (int)number;
}

struct stage_options stage_begin(int argc, char **argv)
{
    struct stage_options options = { .in_fd = -1, .out_fd = -1, .answer_fd = -1, .file_fd = -1 };
    bool kind_given = false;

    for (int option; (option = getopt(argc, argv, "t:m:i:o:a:f:n:g:l")) != -1;) {
        switch (option) {
        case 't':
            kind_given = transport_parse(optarg, &options.kind) == VRD_OK;
            break;
        case 'm':
            options.message_size = number_parse(optarg);
            break;
        case 'i':
            options.in_fd = fd_parse(optarg);
            break;
        case 'o':
            options.out_fd = fd_parse(optarg);
            break;
        case 'a':
            options.answer_fd = fd_parse(optarg);
            break;
        case 'f':
            options.file_fd = fd_parse(optarg);
            break;
        case 'n':
            options.limit = number_parse(optarg);
            break;
        case 'g':
            options.interval = number_parse(optarg);
            break;
        case 'l':
            options.closed_loop = true;
            break;
        default:
            misused();
        }
    }
    if (!kind_given || !message_size_valid(options.message_size) || optind != argc)
        misused();
    signal(SIGPIPE, SIG_IGN);
    return options;
}

void stage_open(struct transport *transport, const struct stage_options *options, int fd,
                size_t message_size)
{
    if (fd < 0)
        misused();
    int err = transport_open(transport, options->kind, fd, message_size);
    if (err < 0)
        stage_fail("cannot take the connection", err);
}

struct message *stage_message_new(const struct stage_options *options)
{
    struct message *message = calloc(1, options->message_size);
    if (!message)
        stage_fail("cannot start", VRD_ERR_OUT_OF_MEMORY);
    return message;
}

FILE *stage_file_open(const struct stage_options *options, const char *mode)
{
    static char buffer[1 << 18];

    if (options->file_fd < 0)
        misused();
    FILE *file = fdopen(options->file_fd, mode);
    if (!file)
        stage_fail("cannot open the file", VRD_ERR_SYSTEM);
    setvbuf(file, buffer, _IOFBF, sizeof(buffer));
    __fsetlocking(file, FSETLOCKING_BYCALLER);
    return file;
}

_Noreturn void stage_fail(const char *what, int err)
{
    int cause = errno;
    fprintf(stderr, "%s: %s: %s", program_invocation_short_name, what, vrd_strerror(err));
    if (err == VRD_ERR_SYSTEM)
        fprintf(stderr, ": %s", strerror(cause));
    fputc('\n', stderr);
    exit(1);
}
