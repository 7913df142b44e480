// SPDX-License-Identifier: MIT

import java.util.Scanner;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.zip.Deflater;

/*
 * Sums - compresses in threads, with just-in-time compilation and garbage collection all around.
 *
 * usage: java -cp BUILD/tests/victims Sums THREADS
 *
 * Obeys `run N` and `quit` as tests/victims/victim.h says. In each round every thread resets its
 * compressor once: Java_java_util_zip_Deflater_reset of libzip.so, and deflateReset.
 */
public class Sums {
	volatile byte[] garbage;

	final Deflater deflater = new Deflater();
	final byte[] in = new byte[200], out = new byte[400];
	final int expected;

	static int compress(Deflater deflater, byte[] in, byte[] out) {
		deflater.setInput(in);
		deflater.finish();
		int size = deflater.deflate(out), sum = 0;
		for (int i = 0; i < size; i++)
			sum = sum * 31 + out[i];
		return sum;
	}

	Sums(int thread) {
		for (int i = 0; i < in.length; i++)
			in[i] = (byte)(i * i * thread >> 3);
		expected = compress(deflater, in, out);
	}

	int round(long k) {
		deflater.reset();
		int wrong = compress(deflater, in, out) == expected ? 0 : 1;
		garbage = new byte[1000];
		try {
			wrong += garbage[(int)(k % 7 + 1000)] + 1;
		} catch (ArrayIndexOutOfBoundsException rightly) {
			garbage = null;
		}
		try {
			wrong += garbage.length + 1; // the machine faults, the virtual machine handles that
		} catch (NullPointerException rightly) {
		}
		return wrong;
	}

	int rounds(long number) {
		int wrong = 0;
		for (long k = 0; k < number; k++)
			wrong += round(k);
		return wrong;
	}

	public static void main(String[] args) throws Exception {
		int threads = Integer.parseInt(args[0]), wrong = 0;
		ExecutorService pool = Executors.newFixedThreadPool(threads);
		Scanner input = new Scanner(System.in);
		Sums[] sums = new Sums[threads];

		for (int i = 0; i < threads; i++)
			sums[i] = new Sums(i);
		System.out.println("ready");
		while (input.hasNext() && input.next().equals("run")) {
			long number = input.nextLong();
			Future<?>[] done = new Future<?>[threads];
			for (int i = 0; i < threads; i++) {
				final Sums one = sums[i];
				done[i] = pool.submit((Callable<Integer>)() -> one.rounds(number));
			}
			for (Future<?> one : done)
				wrong += (Integer)one.get();
			System.out.println("done " + wrong);
		}
		System.exit(0);
	}
}
