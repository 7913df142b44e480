/* SPDX-License-Identifier: MIT */
/* versions.c - what becomes of a place in text, and how old what is fetched may be. */
#include <string.h>
#include "port/model/rule.h"
#include "port/model/versions.h"

void versions_unify(struct versions *v)
{
	v->unified = (uint8_t)versions_newest(v);
}

bool versions_store(struct versions *v, const struct versions_caches *caches)
{
	bool unified = caches->fetch_from_data && rule_holds(caches->broken, RULE_FETCH_FROM_DATA);

	v->count++;
	if (unified)
		versions_unify(v);
	return unified;
}

bool versions_clean(struct versions *v, const struct versions_caches *caches)
{
	if (!rule_holds(caches->broken, RULE_CLEAN))
		return false;
	versions_unify(v);
	return true;
}

bool versions_reach(const struct versions_caches *caches, unsigned core, unsigned other)
{
	if (!rule_holds(caches->broken, RULE_DROP_EXECUTED))
		return false;
	return core == other || (caches->broadcast ? rule_holds(caches->broken, RULE_BROADCAST)
	                                           : !rule_holds(caches->broken, RULE_LOCAL));
}

void versions_invalidate(const struct versions *v, const struct versions_caches *caches,
                         uint8_t *floors, unsigned core)
{
	unsigned floor =
	        rule_holds(caches->broken, RULE_DROP_UNIFIED) ? v->unified : versions_newest(v);

	for (unsigned i = 0; i < caches->cores; i++)
		if (versions_reach(caches, core, i) && floors[i] < floor)
			floors[i] = (uint8_t)floor;
}

bool versions_follow(const struct versions *v, const struct versions_caches *caches, uint8_t *floor)
{
	bool follows = caches->instruction_coherent && rule_holds(caches->broken, RULE_COHERENT);

	if (follows)
		*floor = (uint8_t)versions_newest(v);
	return follows;
}

unsigned versions_floor(const struct versions *v, const struct versions_caches *caches,
                        unsigned floor)
{
	return rule_holds(caches->broken, RULE_FETCH_STALE) ? floor : versions_newest(v);
}

void versions_settle(struct versions *v, uint8_t *content, unsigned room, uint8_t **index,
                     unsigned n)
{
	uint8_t moved[VERSIONS_MAX] = {0}, kept = 0;
	unsigned lowest = v->unified;

	for (unsigned i = 0; i < n; i++)
		lowest = *index[i] < lowest ? *index[i] : lowest;
	/* Equal neighbours are one content. */
	for (unsigned i = 0; i < v->count; i++) {
		bool fresh = i >= lowest && (kept == 0 || content[i] != content[kept - 1]);

		if (fresh)
			content[kept++] = content[i];
		moved[i] = (uint8_t)(kept ? kept - 1 : 0);
	}
	v->unified = moved[v->unified];
	for (unsigned i = 0; i < n; i++)
		*index[i] = moved[*index[i]];
	v->count = kept;
	memset(content + kept, 0, room - kept);
}
