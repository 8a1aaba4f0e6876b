/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Times SSL_write and SSL_read between two TLS objects in one process, without sockets:
 * memory BIOs carry the records, so that the calls themselves are what is timed.
 * Prints the nanoseconds of one call, the least of several rounds, each time it is told
 * to by a line on its input.
 */
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CALLS = 2000, ROUNDS = 15, LEN = 64 };

static void need(int good, const char *what)
{
	if (!good) {
		fprintf(stderr, "cannot %s\n", what);
		exit(1);
	}
}

static SSL *object(const char *certificate, const char *key, BIO *in, BIO *out)
{
	SSL_CTX *context = SSL_CTX_new(TLS_method());

	if (certificate) {
		need(SSL_CTX_use_certificate_file(context, certificate, SSL_FILETYPE_PEM) == 1,
		     "read the certificate");
		need(SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1,
		     "read the key");
	}
	SSL *ssl = SSL_new(context);

	BIO_up_ref(in);
	BIO_up_ref(out);
	SSL_set_bio(ssl, in, out);
	return ssl;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e9 + time.tv_nsec;
}

int main(int count, char **words)
{
	need(count == 3, "run: client CERTIFICATE KEY");

	BIO *up = BIO_new(BIO_s_mem()), *down = BIO_new(BIO_s_mem());
	SSL *client = object(NULL, NULL, down, up);
	SSL *server = object(words[1], words[2], up, down);
	char bytes[LEN], line[16];

	SSL_set_connect_state(client);
	SSL_set_accept_state(server);
	for (int i = 0; i < 10; i++) {
		SSL_do_handshake(client);
		SSL_do_handshake(server);
	}
	need(SSL_is_init_finished(client) && SSL_is_init_finished(server), "shake hands");
	memset(bytes, 'x', LEN);
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		double least = 1e18;

		for (int round = 0; round < ROUNDS; round++) {
			double start = now();

			for (int i = 0; i < CALLS; i++) {
				need(SSL_write(client, bytes, LEN) == LEN, "write");
				need(SSL_read(server, bytes, LEN) == LEN, "read");
			}
			double each = (now() - start) / (2 * CALLS);

			if (each < least)
				least = each;
		}
		printf("%.0f\n", least);
		fflush(stdout);
	}
	return 0;
}
