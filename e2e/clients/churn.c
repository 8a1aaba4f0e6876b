/*
 * Starts short processes at an even pace: `churn COUNT SECONDS EVERY ADDRESS PORT HELLO`.
 *
 * Each is a program of its own (this one again, under its name, with other arguments) that ends at
 * once. Each EVERY-th first opens a connection, sends the ClientHello of the file HELLO and waits for
 * the first byte of the answer: the least that a program does which asks a model API. It says how
 * many processes failed, and ends with 1 when any did.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

/* `churn call NUMBER ADDRESS PORT HELLO` */
static int call(char **arguments)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	char hello[16384];
	ssize_t size;
	int fd;

	at.sin_port = htons(atoi(arguments[4]));
	inet_pton(AF_INET, arguments[3], &at.sin_addr);
	fd = open(arguments[5], O_RDONLY);
	size = read(fd, hello, sizeof(hello));
	/* The 32 random bytes of a hello (RFC 8446 section 4.1.2) are never the same twice: two equal
	 * ones are one hello that was passed on. */
	if (size < 43 || getrandom(hello + 11, 32, 0) != 32)
		return 2;
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&at, sizeof(at)))
		return 3;
	if (write(fd, hello, size) != size)
		return 4;
	return read(fd, hello, 1) == 1 ? 0 : 5;
}

static int reap(int flags)
{
	int failed = 0, status;

	while (waitpid(-1, &status, flags) > 0)
		failed += status != 0;
	return failed;
}

int main(int count, char **arguments)
{
	struct timespec next;
	long step, number, wanted, failed = 0;

	if (count == 6 && !strcmp(arguments[1], "call"))
		return call(arguments);
	if (count == 2)
		return 0;
	if (count != 7)
		return 64;
	wanted = atol(arguments[1]);
	step = (long)(atof(arguments[2]) * 1e9 / wanted);
	clock_gettime(CLOCK_MONOTONIC, &next);
	for (number = 0; number < wanted; number++) {
		char name[32];
		char *calls[] = { arguments[0], "call", name, arguments[4], arguments[5], arguments[6], NULL };
		char *nothing[] = { arguments[0], name, NULL };
		int is_call = number % atol(arguments[3]) == 0;
		pid_t pid;

		snprintf(name, sizeof(name), "number-%ld", number);
		failed += posix_spawn(&pid, "/proc/self/exe", NULL, NULL, is_call ? calls : nothing, environ) != 0;
		failed += reap(WNOHANG);
		next.tv_nsec += step;
		next.tv_sec += next.tv_nsec / 1000000000;
		next.tv_nsec %= 1000000000;
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
	}
	failed += reap(0);
	printf("%ld\n", failed);
	return failed != 0;
}
