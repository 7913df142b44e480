/* SPDX-License-Identifier: MIT */
/*
 * edit.c - change an instruction of a function while it may be running.
 *
 *     cc edit.c $(pkg-config --cflags --libs suture) -o edit && ./edit
 */
#include <stdint.h>
#include <stdio.h>
#include <suture/text.h>

/* mov $1, %eax; ret */
__asm__(".text\nanswer:\n\t.byte 0xb8, 1, 0, 0, 0\n\tret\n");
extern int answer(void);

int main(void)
{
	static const uint8_t one[] = {0xB8, 1, 0, 0, 0}, forty_two[] = {0xB8, 42, 0, 0, 0};
	char message[200];
	struct suture_text_options options = {
	        .size = sizeof(options), .message = message, .message_size = sizeof(message)};
	struct suture_edit edit = {answer, one, forty_two, sizeof(one)};

	printf("%d\n", answer());
	if (suture_text_patch(&edit, 1, &options)) {
		fprintf(stderr, "%s\n", message);
		return 1;
	}
	printf("%d\n", answer());
	/* It is no longer what it was: nothing is written, and we are told. */
	if (suture_text_patch(&edit, 1, &options) == 0)
		return 1;
	printf("%s\n", message);
	return 0;
}
