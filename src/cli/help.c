// SPDX-License-Identifier: MIT
/* help.c - what --help prints; suture(1) says it at length. */
#include <string.h>

#include "cli/cli.h"

static const char suture_help[] =
        "Usage: suture COMMAND -p PID [OPTION]... [SPEC]...\n"
        "Count calls in a process that is already running, then leave it as it was.\n"
        "\n"
        "Commands:\n"
        "  count    count executions of functions or instructions\n"
        "  revert   undo what a killed suture left in a process\n"
        "  status   show what a suture has in a process\n"
        "  list     show which functions can be counted, and how\n"
        "  explain  show why counting at a site is safe, or why it is refused\n"
        "  doctor   show what this machine and a process allow, and how to change it\n"
        "  help     explain a command: suture help COMMAND\n"
        "\n"
        "Options:\n"
        "  --help     print this text, or that of a command: suture COMMAND --help\n"
        "  --version  print the version\n"
        "\n"
        "Exit status: 0 done, 1 internal error, 2 usage, 3 no such process or no permission,\n"
        "4 a site was refused, 5 the process could not be stopped in time.\n";

static const char count_help[] =
        "Usage: suture count -p PID [OPTION]... SPEC...\n"
        "Count how often functions or instructions of process PID are executed, until the time\n"
        "is up, Ctrl-C, or the process exits. Then restore the process and print the counts.\n"
        "\n"
        "SPEC:\n"
        "  [MODULE:]NAME            a function; NAME may be a glob of *, ? and [...]\n"
        "  [MODULE:]NAME+0xOFFSET   the instruction at that offset in it\n"
        "  MODULE:0xADDRESS         the instruction at that address, as in the ELF file\n"
        "  MODULE is the base name of a mapped file.\n"
        "\n"
        "Options:\n"
        "  -p PID                the process\n"
        "  --for DURATION        end after this time: 500ms, 10s, 2m, 1h; default: no limit\n"
        "  --json                print a JSON object instead of the table\n"
        "  --interval DURATION   time between two redraws on a terminal; default 1s\n"
        "  --no-rseq             count with locked instructions even where rseq would do\n"
        "  --kinds LIST          allow only these kinds of sites: pun,window,uprobe\n"
        "  --pages N             use at most N pages of trampolines\n"
        "  --max-pause DURATION  stop the process for no longer, or leave it alone: 500us, 20ms\n"
        "  --dry-run             print what would be done to each site, and do nothing\n"
        "  --specs-from FILE     read specifications from FILE, one a line; -: standard input\n"
        "  --log FILE            append the audit log to FILE; default: syslog\n"
        "  --help                print this text\n";

static const char revert_help[] =
        "Usage: suture revert -p PID [OPTION]...\n"
        "Undo what a killed suture left in process PID and in every process that shares its\n"
        "memory. It is no error if there is nothing to undo.\n"
        "\n"
        "Options:\n"
        "  -p PID                the process\n"
        "  --max-pause DURATION  stop a process for no longer, or leave it alone: 500us, 20ms\n"
        "  --log FILE            append the audit log to FILE; default: syslog\n"
        "  --help                print this text\n";

static const char status_help[] = "Usage: suture status -p PID [--json]\n"
                                  "Show what a suture, running or killed, has in process PID.\n"
                                  "\n"
                                  "Options:\n"
                                  "  -p PID   the process\n"
                                  "  --json   print a JSON object\n"
                                  "  --help   print this text\n";

static const char list_help[] =
        "Usage: suture list -p PID [OPTION]... [SPEC]...\n"
        "List functions of process PID with the kind that each would get if it alone was\n"
        "counted, or why it would be refused. Without SPEC: all. The process is not stopped.\n"
        "\n"
        "Options:\n"
        "  -p PID        the process\n"
        "  --summary     print only how many functions of each file get which kind\n"
        "  --kinds LIST  allow only these kinds of sites: pun,window,uprobe\n"
        "  --json        print a JSON object\n"
        "  --help        print this text\n";

static const char explain_help[] =
        "Usage: suture explain -p PID [OPTION]... SPEC\n"
        "Explain what counting at SPEC would change in process PID, and why nobody could be in\n"
        "the middle of it, or who could, hence the refusal. The process is not stopped.\n"
        "\n"
        "Options:\n"
        "  -p PID        the process\n"
        "  --stop        stop all threads for a moment, to see where they are\n"
        "  --kinds LIST  allow only these kinds of sites: pun,window,uprobe\n"
        "  --json        print a JSON object\n"
        "  --help        print this text\n";

static const char doctor_help[] =
        "Usage: suture doctor [-p PID] [--json]\n"
        "Show what this machine, and process PID, allow: each line with what follows from it and\n"
        "how to change it. The process is not stopped. The exit status is that with which\n"
        "suture count would refuse, or 0.\n"
        "\n"
        "Options:\n"
        "  -p PID   the process; without it, the machine only\n"
        "  --json   print a JSON object\n"
        "  --help   print this text\n";

static const char help_help[] = "Usage: suture help [COMMAND]\n"
                                "Explain suture or one of its commands.\n";

const char *help_text(const char *topic)
{
	static const struct {
		const char *topic;
		const char *text;
	} texts[] = {
	        {"count", count_help}, {"revert", revert_help},   {"status", status_help},
	        {"list", list_help},   {"explain", explain_help}, {"doctor", doctor_help},
	        {"help", help_help},
	};

	if (!topic)
		return suture_help;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (!strcmp(texts[i].topic, topic))
			return texts[i].text;
	return NULL;
}
