/* SPDX-License-Identifier: MIT */
/* reader.c - numbers out of bytes that may end at any time. */
#include <dwarf.h>

#include "module/internal.h"

static uint64_t give_up(struct reader *reader)
{
	reader->bad = true;
	reader->at = reader->end;
	return 0;
}

void read_skip(struct reader *reader, uint64_t size)
{
	if (reader->bad || size > (size_t)(reader->end - reader->at)) {
		give_up(reader);
		return;
	}
	reader->at += size;
	reader->address += size;
}

uint64_t read_fixed(struct reader *reader, unsigned size)
{
	const uint8_t *from = reader->at;
	uint64_t value = 0;

	read_skip(reader, size);
	if (reader->bad)
		return 0;
	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)from[i] << 8 * i;
	return value;
}

/* DWARF 5, 7.6. Padding with superfluous groups is legal; bits beyond 64 are lost. */
static uint64_t read_leb(struct reader *reader, bool is_signed)
{
	uint64_t value = 0;
	unsigned shift = 0;
	uint8_t byte;

	do {
		byte = (uint8_t)read_fixed(reader, 1);
		if (shift < 64)
			value |= (uint64_t)(byte & 0x7f) << shift;
		shift += 7;
		if (shift > 16 * 7)
			return give_up(reader);
	} while (byte & 0x80);
	if (is_signed && (byte & 0x40) && shift < 64)
		value |= ~UINT64_C(0) << shift;
	return reader->bad ? 0 : value;
}

uint64_t read_uleb(struct reader *reader)
{
	return read_leb(reader, false);
}

int64_t read_sleb(struct reader *reader)
{
	return (int64_t)read_leb(reader, true);
}

uint64_t read_encoded(struct reader *reader, uint8_t encoding, uint64_t function)
{
	uint64_t base, value;

	switch (encoding & 0x70) {
	case DW_EH_PE_absptr:
		base = 0;
		break;
	case DW_EH_PE_pcrel:
		base = reader->address;
		break;
	case DW_EH_PE_funcrel:
		base = function;
		break;
	default: /* text- and data-relative ones need a base that the file does not name */
		return give_up(reader);
	}
	switch (encoding & 0x0f) {
	case DW_EH_PE_absptr:
	case DW_EH_PE_udata8:
	case DW_EH_PE_sdata8:
		value = read_fixed(reader, 8);
		break;
	case DW_EH_PE_uleb128:
		value = read_uleb(reader);
		break;
	case DW_EH_PE_sleb128:
		value = (uint64_t)read_sleb(reader);
		break;
	case DW_EH_PE_udata2:
		value = read_fixed(reader, 2);
		break;
	case DW_EH_PE_sdata2:
		value = (uint64_t)(int16_t)read_fixed(reader, 2);
		break;
	case DW_EH_PE_udata4:
		value = read_fixed(reader, 4);
		break;
	case DW_EH_PE_sdata4:
		value = (uint64_t)(int32_t)read_fixed(reader, 4);
		break;
	default:
		return give_up(reader);
	}
	/* A null pointer is null whatever it is relative to. */
	return reader->bad || value == 0 ? 0 : base + value;
}
