// link: -l:libpython3.11.so.1.0
/* SPDX-License-Identifier: MIT */
/* pyembed.c - Python as a library: what python3 does, by libpython. */
int Py_BytesMain(int argc, char **argv);

int main(int argc, char **argv)
{
	return Py_BytesMain(argc, argv);
}
