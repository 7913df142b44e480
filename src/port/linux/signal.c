/* SPDX-License-Identifier: MIT */
/*
 * signal.c - the signal by which threads are brought to rest: taken before, and given back after.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>
#include "port/linux/linux.h"
#include "port/linux/syscall.h"

static bool is_installed(const struct sigaction *action)
{
	return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == linux_on_park;
}

/* Signals that some thread blocks: it may be waiting for them with sigwaitinfo or signalfd. */
static uint64_t blocked_somewhere(void)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *entry;
	uint64_t mask = 0;

	while (tasks && (entry = readdir(tasks)))
		if (entry->d_name[0] != '.')
			mask |= linux_blocked_by(entry->d_name);
	if (tasks)
		closedir(tasks);
	return mask;
}

/* It has its default action, or is ours already. */
static bool is_free(int number)
{
	struct sigaction now;

	return sigaction(number, NULL, &now) == 0 &&
	       (is_installed(&now) || (!(now.sa_flags & SA_SIGINFO) && now.sa_handler == SIG_DFL));
}

/* One that is free, and rather one that nobody blocks; 0: there is none. */
static int choose_signal(void)
{
	uint64_t blocked = blocked_somewhere();
	int second = 0;

	for (int number = SIGRTMAX; number >= SIGRTMIN; number--) {
		if (!is_free(number))
			continue;
		if (!(blocked >> (number - 1) & 1))
			return number;
		second = second ? second : number;
	}
	return second;
}

static int take_signal(struct park *park)
{
	struct sigaction action = {.sa_sigaction = linux_on_park,
	                           .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
	struct kernel_sigaction installed;

	if (!park->signal || !is_free(park->signal))
		park->signal = choose_signal();
	if (!park->signal)
		return -EBUSY;
	sigfillset(&action.sa_mask);
	if (sigaction(park->signal, &action, NULL))
		return -errno;
	/* libc has added what handlers return to. */
	if (syscall4(SYS_rt_sigaction, park->signal, 0, (long)&installed, sizeof(installed.mask)))
		return -EINVAL;
	park->restorer = (uintptr_t)installed.restorer;
	return 0;
}

int linux_park_attach(struct port *port, const void *frame)
{
	struct park *park = &port->park;
	int rc;

	park->frame = (uintptr_t)frame;
	__atomic_store_n(&linux_parking, port, __ATOMIC_RELEASE);
	rc = take_signal(park);
	if (rc)
		return rc;
	park->careful = __atomic_load_n(&park->handled, __ATOMIC_ACQUIRE) != park->sent;
	park->tasks = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return park->tasks < 0 ? -errno : 0;
}

void linux_park_detach(struct port *port)
{
	struct park *park = &port->park;
	struct sigaction standard = {.sa_handler = SIG_DFL}, now;

	if (park->tasks >= 0)
		close(park->tasks);
	park->tasks = -1;
	/* One that is on its way would kill us. */
	if (__atomic_load_n(&park->handled, __ATOMIC_ACQUIRE) == park->sent &&
	    sigaction(park->signal, NULL, &now) == 0 && is_installed(&now))
		sigaction(park->signal, &standard, NULL);
}

uint32_t linux_park_late(const struct port *port, int *signal)
{
	*signal = port->park.signal;
	return port->park.late;
}

uint32_t linux_park_occupant(const struct port *port, uint64_t *address)
{
	*address = port->park.occupied;
	return port->park.occupant;
}
