/* SPDX-License-Identifier: MIT */
/* x86_format.c - one instruction as text, in AT&T syntax, as objdump and gdb print it. */
#include <errno.h>
#include <string.h>

#include "isa/x86.h"

int x86_format(const uint8_t *code, size_t size, uint64_t address, char *out, size_t out_size)
{
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction fields;
	ZydisFormatter formatter;
	ZydisDecoder decoder;

	if (!out_size)
		return -ENOSPC;
	*out = 0;
	if (!ZYAN_SUCCESS(
	            ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)) ||
	    !ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, code, size, &fields, operands)))
		return -EILSEQ;
	if (!ZYAN_SUCCESS(ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_ATT)))
		return -ENOTSUP;
	ZydisFormatterSetProperty(&formatter, ZYDIS_FORMATTER_PROP_HEX_UPPERCASE, ZYAN_FALSE);
	ZydisFormatterSetProperty(&formatter, ZYDIS_FORMATTER_PROP_ADDR_PADDING_ABSOLUTE,
	                          ZYDIS_PADDING_DISABLED);
	ZydisFormatterSetProperty(&formatter, ZYDIS_FORMATTER_PROP_ADDR_PADDING_RELATIVE,
	                          ZYDIS_PADDING_DISABLED);
	ZydisFormatterSetProperty(&formatter, ZYDIS_FORMATTER_PROP_DISP_PADDING,
	                          ZYDIS_PADDING_DISABLED);
	ZydisFormatterSetProperty(&formatter, ZYDIS_FORMATTER_PROP_IMM_PADDING,
	                          ZYDIS_PADDING_DISABLED);
	if (!ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&formatter, &fields, operands,
	                                                  fields.operand_count_visible, out,
	                                                  out_size, address, ZYAN_NULL)))
		return -ENOSPC;
	return fields.length;
}
