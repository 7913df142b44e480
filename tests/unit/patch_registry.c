/* SPDX-License-Identifier: MIT */
/*
 * patch_registry.c - a registry outlives its writer, so its reader believes nothing.
 *
 * Proven: randomly corrupted registries are found to be well formed exactly if they are (sorted,
 * disjoint, of sane lengths, within the memory that there is, and with no change that crosses a
 * write unit); and the original code can be read through any window onto code that is patched,
 * or half patched.
 */
#include <stdlib.h>
#include <string.h>

#include "patch/patch.h"
#include "tap.h"

#define BASE 0x555555556000ull

enum { SLOT = 16, FUNCTIONS = 512, CODE = FUNCTIONS * SLOT, LENGTH = 10 };

static uint8_t image[CODE];
static struct patch_registry *registry;

static uint64_t random_state = 0x5375747572653836;

static uint64_t below(uint64_t limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % limit;
}

/* Every third function, some of whose bytes change. */
static void make(size_t count)
{
	registry->count = (uint32_t)count;
	for (size_t i = 0; i < count; i++) {
		struct sync_site *site = &registry->sites[i];
		size_t offset = i * 3 * SLOT;

		*site = (struct sync_site){.address = BASE + offset, .length = LENGTH};
		memcpy(site->original, image + offset, LENGTH);
		memcpy(site->patched, image + offset, LENGTH);
		for (size_t k = 0; k < LENGTH; k += 1 + below(3))
			site->patched[k] = (uint8_t)~image[offset + k];
	}
}

static void patched_image(uint8_t *out)
{
	memcpy(out, image, CODE);
	for (size_t i = 0; i < registry->count; i++)
		memcpy(out + registry->sites[i].address - BASE, registry->sites[i].patched, LENGTH);
}

static void overlay(void)
{
	static uint8_t patched[CODE];
	uint8_t bytes[256];
	size_t good = 0;

	make(150);
	for (int i = 0; i < 5000; i++) {
		size_t size = below(sizeof(bytes)), at = below(CODE - size);

		if (i % 100 == 0) {
			patched_image(patched);
			for (int k = below(2) ? 600 : 0; k > 0; k--) { /* half of it back */
				size_t byte = below(CODE);

				patched[byte] = image[byte];
			}
		}
		memcpy(bytes, patched + at, size);
		patch_original(registry, BASE + at, bytes, size);
		good += !memcmp(bytes, image + at, size);
	}
	ok(good == 5000, "the original code can be read through every window");
}

static bool well_formed(size_t size, uint64_t unit)
{
	unsigned __int128 end = 0;

	if (size < patch_registry_size(0) ||
	    registry->count > (size - patch_registry_size(0)) / sizeof(struct sync_site))
		return false;
	for (uint32_t i = 0; i < registry->count; i++) {
		const struct sync_site *site = &registry->sites[i];
		uint64_t first = UINT64_MAX, last = 0;

		if (site->address < end || !site->length || site->length > SYNC_SITE_MAX)
			return false;
		end = (unsigned __int128)site->address + site->length;
		if (end > (unsigned __int128)UINT64_MAX + 1)
			return false;
		for (unsigned k = 0; k < site->length; k++)
			if (site->original[k] != site->patched[k]) {
				last = site->address + k;
				first = first < last ? first : last;
			}
		if (unit && first <= last && first / unit != last / unit)
			return false;
	}
	return true;
}

/* Where a change may be, by hand. */
static void pages(void)
{
	static const struct {
		const char *what;
		uint64_t address;
		uint8_t length, change, changes; /* index of the first byte that changes, number */
		bool valid;
	} table[] = {
	        {"the last byte of a page", 0x1fff, 5, 0, 1, true},
	        {"the first byte of the next", 0x1fff, 6, 1, 1, true},
	        {"both", 0x1fff, 6, 0, 2, false},
	        {"up to the end of a page", 0x1ff6, 10, 0, 10, true},
	        {"one byte more", 0x1ff7, 10, 0, 10, false},
	        {"the longest", 0x2000, 16, 0, 16, true},
	        {"too long", 0x2000, 17, 0, 1, false},
	        {"nothing", 0x2000, 0, 0, 0, false},
	        {"the end of all addresses", UINT64_MAX - 4, 5, 0, 5, true},
	        {"beyond it", UINT64_MAX - 4, 6, 0, 1, false},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct sync_site *site = &registry->sites[0];

		*site = (struct sync_site){.address = table[i].address, .length = table[i].length};
		for (unsigned k = 0; k < table[i].changes; k++)
			site->patched[table[i].change + k] = 1;
		registry->count = 1;
		ok(patch_registry_valid(registry, patch_registry_size(1), 4096) == table[i].valid,
		   "%s: %s", table[i].what, table[i].valid ? "valid" : "refused");
	}
	registry->sites[1] = (struct sync_site){.address = 0x1000, .length = 5};
	registry->sites[0] = (struct sync_site){.address = UINT64_MAX - 4, .length = 5};
	registry->count = 2;
	ok(!patch_registry_valid(registry, patch_registry_size(2), 4096),
	   "a site below one that ends at the end of all addresses: refused");
}

static void corrupt(void)
{
	enum { ROUNDS = 200000, COUNT = 20 };
	static const uint64_t tops[] = {UINT64_MAX, UINT64_MAX - 4, UINT64_MAX - 15, 0, 4095};
	size_t agreed = 0, valid = 0;

	for (int i = 0; i < ROUNDS; i++) {
		size_t size = patch_registry_size(COUNT);
		uint32_t unit = below(2) ? 0 : 1u << below(13);
		uint8_t *bytes = (uint8_t *)registry;
		bool expected;

		make(COUNT);
		for (uint64_t k = below(4); k > 0; k--) {
			struct sync_site *site = &registry->sites[below(COUNT)];

			switch (below(6)) {
			case 0:
				bytes[below(patch_registry_size(COUNT))] = (uint8_t)below(256);
				break;
			case 1:
				site->address = tops[below(5)];
				break;
			case 2:
				site->address += below(64) - 32;
				break;
			case 3:
				site->length = (uint8_t)below(20);
				break;
			case 4:
				size = below(size + 1);
				break;
			case 5:
				registry->count = (uint32_t)below(UINT32_MAX) >> below(32);
				break;
			}
		}
		expected = well_formed(size, unit);
		valid += expected;
		agreed += patch_registry_valid(registry, size, unit) == expected;
	}
	ok(agreed == ROUNDS && valid > ROUNDS / 10 && valid < ROUNDS,
	   "%d corrupted registries, of which %zu are well formed all the same", ROUNDS, valid);
}

int main(void)
{
	registry = calloc(1, patch_registry_size(FUNCTIONS));
	if (!registry)
		return 1;
	for (size_t i = 0; i < CODE; i++)
		image[i] = (uint8_t)below(256);
	overlay();
	pages();
	corrupt();
	return done();
}
