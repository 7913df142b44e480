/* SPDX-License-Identifier: MIT */
/* machine.h - the one state of libsuture-bare. */
#ifndef SUTURE_API_BARE_MACHINE_H
#define SUTURE_API_BARE_MACHINE_H

#include <suture/bare.h>
#include "patch/patch.h"
#include "port/bare/bare.h"

enum {
	EPERM = 1,
	ENOENT = 2,
	EFAULT = 14,
	EBUSY = 16,
	EEXIST = 17,
	EINVAL = 22,
	ENOSPC = 28,
	ENOTSUP = 95,
	ETIMEDOUT = 110,
	EUCLEAN = 117,
};

enum probe_state {
	PROBE_FREE, /* nobody can be on the way to it; what it was for may be remembered */
	PROBE_LIVE,
	PROBE_LEAVING, /* the text is restored, a handler was still under way */
};

struct probe {
	/* A registry of one site, as the trap path wants it; see registry_of. */
	uint64_t text[(sizeof(struct patch_registry) + sizeof(struct sync_site)) / 8];
	struct patch_detour detour;
	uint64_t slot;
	suture_bare_handler handler;
	void *arg;
	enum probe_state state;
};

static inline struct patch_registry *registry_of(struct probe *probe)
{
	return (struct patch_registry *)(void *)probe->text;
}

struct machine {
	struct port port;
	const struct isa *isa;
	struct patch_traps traps;
	struct probe *probes; /* traps.count, in the order of traps.live */
	uint32_t probes_busy; /* shared: somebody adds or removes one */
};

extern struct machine machine;

#endif
