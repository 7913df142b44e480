// SPDX-License-Identifier: MIT
/* main.c - the suture command. */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

/*
 * If one of the standard descriptors is closed, the next file opened would take its number, and
 * our table would be written into it: a memory of the target, for instance. The substitutes are
 * opened the wrong way round, so that using them still fails.
 */
static void fill_standard_descriptors(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
		    open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
			_exit(STATUS_INTERNAL);
}

int finish_output(FILE *out)
{
	/* A flush that failed earlier has left its mark, but no errno. */
	int error = fflush(out) ? errno : ferror(out) ? EIO : 0;

	if (!error)
		return STATUS_DONE;
	complain("cannot write to standard output: %s", strerror(error));
	return STATUS_INTERNAL;
}

int main(int argc, char **argv)
{
	struct arguments arguments;

	fill_standard_descriptors();
	setlocale(LC_CTYPE, "");
	if (arguments_parse(argc, argv, &arguments))
		return STATUS_USAGE;
	switch (arguments.command) {
	case COMMAND_COUNT:
		return command_count(&arguments);
	case COMMAND_REVERT:
		return command_revert(&arguments);
	case COMMAND_STATUS:
		return command_status(&arguments);
	case COMMAND_LIST:
		return command_list(&arguments);
	case COMMAND_EXPLAIN:
		return command_explain(&arguments);
	case COMMAND_DOCTOR:
		return command_doctor(&arguments);
	case COMMAND_HELP:
		fputs(help_text(arguments.topic), stdout);
		return finish_output(stdout);
	case COMMAND_VERSION:
		puts("suture " SUTURE_VERSION);
		return finish_output(stdout);
	}
	return STATUS_INTERNAL;
}
