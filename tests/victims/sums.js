// SPDX-License-Identifier: MIT
/*
 * sums - calls into libuv, with just-in-time compilation and garbage collection all around.
 *
 * usage: node sums.js
 *
 * Obeys `run N` and `quit` as tests/victims/victim.h says. In each round uv_os_getpriority is
 * called once.
 */
'use strict';
const fs = require('fs');
const os = require('os');
const zlib = require('zlib');

const priority = os.getPriority();
const text = 'what is compressed '.repeat(20);

function sum(k) {
	let x = k;
	for (let i = 0; i < 20; i++)
		x = (x * 31 + i) % 1000003;
	return x;
}

function round(k) {
	let wrong = 0;
	if (os.getPriority() !== priority)
		wrong++;
	if (sum(k) !== new Function('k', `let x = k;
		for (let i = 0; i < 20; i++) x = (x * 31 + i) % ${k % 64 ? 1000003 : 1000003 + 0};
		return x;`)(k))
		wrong++;
	if (k % 50 === 0 && zlib.inflateSync(zlib.deflateSync(text)).toString() !== text)
		wrong++;
	try {
		null.x;
		wrong++;
	} catch (expected) {
	}
	return wrong;
}

let wrong = 0;
let pending = '';
console.log('ready');
process.stdin.on('data', data => {
	const lines = (pending + data).split('\n');
	pending = lines.pop();
	for (const line of lines) {
		if (line === 'quit')
			process.exit(0);
		for (let k = 0, n = Number(line.split(' ')[1]); k < n; k++)
			wrong += round(k);
		console.log('done ' + wrong);
	}
});
