/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that is gone before anybody can look at it: connects to an address and port,
 * sends a ClientHello for a name, and ends.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static unsigned char hello[512];
static size_t len;

static void put(int value, int bytes)
{
	while (bytes--)
		hello[len++] = value >> (8 * bytes);
}

int main(int count, char **words)
{
	if (count != 4) {
		fprintf(stderr, "cannot run; call it with ADDRESS PORT NAME\n");
		return 64;
	}

	int name = strlen(words[3]), extension = name + 5, extensions = extension + 4;
	int body = 2 + 32 + 1 + 4 + 2 + 2 + extensions;

	put(0x160301, 3);
	put(body + 4, 2);
	put(1, 1);
	put(body, 3);
	put(0x0303, 2);
	len += 32;
	put(0, 1);
	put(2, 2);
	put(0x1301, 2);
	put(0x0100, 2);
	put(extensions, 2);
	put(0, 2);
	put(extension, 2);
	put(name + 3, 2);
	put(0, 1);
	put(name, 2);
	memcpy(hello + len, words[3], name);
	len += name;

	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(words[2])) };

	inet_pton(AF_INET, words[1], &to.sin_addr);

	int connection = socket(AF_INET, SOCK_STREAM, 0);

	if (connect(connection, (struct sockaddr *)&to, sizeof(to)))
		return 1;
	return write(connection, hello, len) == (ssize_t)len ? 0 : 1;
}
