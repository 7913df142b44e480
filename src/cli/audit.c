// SPDX-License-Identifier: MIT
/*
 * audit.c - who changed what in which process, for those who have to answer for it.
 *
 * One line an event, as key=value, to a file or to syslog; suture(1) documents the keys. Of a file
 * it is known before anything is changed that it can be written to: the first line says what is
 * about to happen, so a tool that is killed has left a line, too. Each line is one write(2) in
 * append mode, so several commands may share a file. Nothing here waits for long: a line is written
 * while a target is counted.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "cli/audit.h"
#include "cli/cli.h"

#define SYSLOG_SOCKET  "/dev/log"
#define SYSLOG_WAIT_US 500000
#define SYSLOG_SITES   100 /* syslog gets the first ones; a file gets all */

/* ---- where lines go ---- */

/* The daemon's own protocol, not syslog(3): that one waits for ever if the daemon does not read. */
static int syslog_connect(void)
{
	static const int types[] = {SOCK_DGRAM, SOCK_STREAM};
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = SYSLOG_SOCKET};
	struct timeval wait = {.tv_usec = SYSLOG_WAIT_US};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		int fd = socket(AF_UNIX, types[i] | SOCK_CLOEXEC, 0);

		if (fd < 0)
			return -1;
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
			return fd;
		close(fd);
	}
	return -1;
}

/* Its absence is no error. */
static void syslog_send(struct audit *audit, const char *text)
{
	time_t now = time(NULL);
	struct tm local;
	char stamp[32], *line;
	int size;

	if (audit->syslog < 0 || !localtime_r(&now, &local))
		return;
	/* RFC 3164, 4.1: month names are English. */
	strftime(stamp, sizeof(stamp), "%b %e %H:%M:%S", &local);
	size = asprintf(&line, "<%d>%s suture[%d]: %s", LOG_AUTHPRIV | LOG_NOTICE, stamp,
	                (int)getpid(), text);
	if (size < 0)
		return;
	if (send(audit->syslog, line, (size_t)size + 1, MSG_NOSIGNAL) < 0) {
		close(audit->syslog);
		audit->syslog = -1;
	}
	free(line);
}

static void file_write(struct audit *audit, char *line, size_t size)
{
	ssize_t written;

	line[size] = '\n';
	do
		written = write(audit->file, line, size + 1);
	while (written < 0 && errno == EINTR);
	line[size] = 0;
	if (written == (ssize_t)size + 1 || audit->failed)
		return;
	audit->failed = written < 0 ? errno : ENOSPC;
	complain("cannot write to the log %s: %s", audit->path, strerror(audit->failed));
}

/* ---- lines ---- */

static bool is_bare(const char *value)
{
	for (; *value; value++)
		if (*value <= ' ' || *value >= 0x7f || strchr("\"\\=", *value))
			return false;
	return true;
}

/* Bare if it can be, else in quotes, so that nothing in a name can look like a key or a line. */
static void put(FILE *out, const char *key, const char *value)
{
	fprintf(out, " %s=", key);
	if (!*value) {
		fputc('-', out);
	} else if (is_bare(value)) {
		fputs(value, out);
	} else {
		fputc('"', out);
		for (; *value; value++) {
			unsigned char c = (unsigned char)*value;

			if (c == '"' || c == '\\')
				fprintf(out, "\\%c", c);
			else if (c < ' ' || c >= 0x7f)
				fprintf(out, "\\x%02x", c);
			else
				fputc(c, out);
		}
		fputc('"', out);
	}
}

static void put_number(FILE *out, const char *key, uint64_t value)
{
	fprintf(out, " %s=%" PRIu64, key, value);
}

static void put_bytes(FILE *out, const char *key, const uint8_t *bytes, size_t size)
{
	fprintf(out, " %s=%s", key, size ? "" : "-");
	for (size_t i = 0; i < size; i++)
		fprintf(out, "%02x", bytes[i]);
}

static void put_time(FILE *out)
{
	struct timespec now;
	struct tm utc;
	char text[32];

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
	fprintf(out, "time=%s.%06ldZ", text, now.tv_nsec / 1000);
}

/* A line begins: time, event, and the id that all lines of one command share. */
static FILE *line_begin(struct audit *audit, const char *event)
{
	FILE *out = open_memstream(&audit->line, &audit->line_size);

	if (!out)
		return NULL;
	put_time(out);
	put(out, "event", event);
	put(out, "id", audit->id);
	put_number(out, "pid", (uint64_t)audit->pid);
	return out;
}

static void line_end(struct audit *audit, FILE *out, bool to_syslog)
{
	if (fclose(out) == 0) {
		if (to_syslog)
			syslog_send(audit, audit->line);
		if (audit->file >= 0)
			file_write(audit, audit->line, audit->line_size);
	}
	free(audit->line);
	audit->line = NULL;
}

/* Who: the user that we run as, the one that logged in, and what sudo(8) says. */
static void put_who(FILE *out)
{
	const char *sudo = getenv("SUDO_USER");
	struct passwd *user = getpwuid(getuid());
	FILE *file = fopen("/proc/self/loginuid", "re");
	unsigned login = UINT32_MAX;

	put_number(out, "uid", getuid());
	put(out, "user", user ? user->pw_name : "");
	if (file && fscanf(file, "%u", &login) != 1)
		login = UINT32_MAX;
	if (file)
		fclose(file);
	if (login != UINT32_MAX)
		put_number(out, "login_uid", login);
	if (sudo)
		put(out, "sudo_user", sudo);
	put_number(out, "tool", (uint64_t)getpid());
}

/* ---- events ---- */

int audit_open(struct audit *audit, const char *path, pid_t pid)
{
	struct timespec now;

	*audit = (struct audit){.path = path, .pid = pid, .file = -1, .syslog = -1};
	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(audit->id, sizeof(audit->id), "%x-%llx", (unsigned)getpid(),
	         (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000);
	if (!path) {
		audit->syslog = syslog_connect();
		return STATUS_DONE;
	}
	/* O_NONBLOCK: a FIFO that nobody reads is an error, not a reason to wait. */
	audit->file =
	        open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
	if (audit->file >= 0)
		return STATUS_DONE;
	complain("cannot open the log %s: %s; nothing was done", path, strerror(errno));
	return STATUS_INTERNAL;
}

int audit_begin(struct audit *audit, const char *event, size_t specs, uint64_t max_pause_ns)
{
	struct suture_program program;
	FILE *out = line_begin(audit, event);

	if (!out) {
		complain("out of memory");
		return STATUS_INTERNAL;
	}
	(void)suture_program_of(audit->pid, &program);
	put_who(out);
	put(out, "exe", program.path);
	put(out, "build_id", program.build_id);
	if (specs)
		put_number(out, "specs", specs);
	if (max_pause_ns)
		put_number(out, "max_pause_us", max_pause_ns / 1000);
	line_end(audit, out, true);
	return audit->failed ? STATUS_INTERNAL : STATUS_DONE;
}

static void put_outcome(FILE *out, int status, const char *result, const char *reason)
{
	put_number(out, "status", (uint64_t)status);
	put(out, "result", result);
	if (reason && *reason)
		put(out, "reason", reason);
}

static void put_edit(FILE *out, const struct suture_change *edit, bool undone)
{
	fprintf(out, " at=0x%" PRIx64, edit->address);
	put_bytes(out, "before", undone ? edit->after : edit->before, edit->size);
	put_bytes(out, "after", undone ? edit->before : edit->after, edit->size);
}

static void log_site(struct audit *audit, const struct suture_target *target, size_t index)
{
	struct suture_target_probe probe;
	struct suture_change edit;
	char *name = NULL;
	size_t size;
	FILE *out, *site;

	if (suture_target_probe(target, index, &probe) ||
	    suture_target_change(target, index, &edit) || !(site = open_memstream(&name, &size)))
		return;
	text_put_site(site, &probe, TEXT_WHOLE);
	fclose(site);
	out = line_begin(audit, "site");
	if (out) {
		put_number(out, "n", index + 1);
		put(out, "site", name);
		put(out, "build_id", suture_target_build_id(target, index));
		put(out, "kind", suture_site_kind_name(probe.kind));
		put_edit(out, &edit, false);
		line_end(audit, out, index < SYSLOG_SITES);
	}
	free(name);
}

static uint64_t microseconds(uint64_t ns)
{
	return (ns + 500) / 1000;
}

void audit_attach(struct audit *audit, const struct suture_target *target, int status)
{
	static const char *const results[] = {[STATUS_DONE] = "done", [STATUS_REFUSED] = "refused"};
	size_t sites = target && status == STATUS_DONE ? suture_target_probes(target) : 0;
	FILE *out = line_begin(audit, "attach");
	struct suture_pause pause = {0};
	const char *reason = NULL;

	if (!out)
		return;
	if (target)
		suture_target_pause(target, &pause);
	if (status)
		reason = status == STATUS_REFUSED ? suture_target_error(target) : complained();
	put_number(out, "sites", sites);
	put_number(out, "refused", target ? suture_target_refusals(target) : 0);
	put_number(out, "stop_us", microseconds(pause.attach_ns));
	put_outcome(out, status,
	            status == STATUS_DONE || status == STATUS_REFUSED ? results[status] : "failed",
	            reason);
	line_end(audit, out, true);
	for (size_t i = 0; i < sites; i++)
		log_site(audit, target, i);
}

void audit_detach(struct audit *audit, const struct suture_target *target, int status)
{
	FILE *out = line_begin(audit, "detach");
	struct suture_pause pause;

	if (!out)
		return;
	suture_target_pause(target, &pause);
	put_number(out, "sites", suture_target_probes(target));
	put_number(out, "processes", suture_target_processes(target));
	put_number(out, "stop_us", microseconds(pause.detach_ns));
	put_outcome(out, status, status ? "kept" : "done",
	            status ? suture_target_error(target) : NULL);
	line_end(audit, out, true);
}

void audit_revert(struct audit *audit, const struct suture_change *edits, int count, int processes,
                  int status)
{
	FILE *out = line_begin(audit, "revert");
	struct suture_pause pause;

	if (!out)
		return;
	suture_target_pause(NULL, &pause);
	put_number(out, "sites", status || count < 0 ? 0 : (uint64_t)count);
	put_number(out, "processes", processes > 0 ? (uint64_t)processes : 0);
	put_number(out, "stop_us", microseconds(pause.detach_ns));
	put_outcome(out, status, status ? "failed" : "done", status ? complained() : NULL);
	line_end(audit, out, true);
	for (int i = 0; i < count && !status; i++) {
		out = line_begin(audit, "site");
		if (!out)
			return;
		put_number(out, "n", (uint64_t)i + 1);
		put_edit(out, &edits[i], true);
		line_end(audit, out, i < SYSLOG_SITES);
	}
}

int audit_close(struct audit *audit)
{
	if (audit->file >= 0 && close(audit->file) && !audit->failed) {
		audit->failed = errno;
		complain("cannot write to the log %s: %s", audit->path, strerror(errno));
	}
	if (audit->syslog >= 0)
		close(audit->syslog);
	audit->file = audit->syslog = -1;
	return audit->failed ? STATUS_INTERNAL : STATUS_DONE;
}
