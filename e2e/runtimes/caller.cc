// Calls a model API over and over, as a program of C++ with OpenSSL does.
#include <netdb.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <iostream>
#include <memory>
#include <string>

namespace {

// A connection to port 443 of a host; -1 when there is none.
int connected(const std::string &host)
{
	addrinfo hints{}, *found = nullptr;

	hints.ai_socktype = SOCK_STREAM;
	if (getaddrinfo(host.c_str(), "443", &hints, &found) != 0)
		return -1;
	std::unique_ptr<addrinfo, void (*)(addrinfo *)> owner(found, freeaddrinfo);
	int socket = ::socket(found->ai_family, found->ai_socktype, 0);

	if (connect(socket, found->ai_addr, found->ai_addrlen) == 0)
		return socket;
	close(socket);
	return -1;
}

void call(SSL_CTX *context, const std::string &host)
{
	int socket = connected(host);
	std::unique_ptr<SSL, void (*)(SSL *)> tls(SSL_new(context), SSL_free);
	const std::string request = "POST /v1/chat/completions HTTP/1.1\r\nHost: " + host +
				    "\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
	char answer[4096];

	SSL_set_tlsext_host_name(tls.get(), host.c_str());
	SSL_set_fd(tls.get(), socket);
	if (socket >= 0 && SSL_connect(tls.get()) == 1 &&
	    SSL_write(tls.get(), request.data(), static_cast<int>(request.size())) > 0)
		std::cout << SSL_read(tls.get(), answer, sizeof(answer)) << std::endl;
	close(socket);
}

} // namespace

int main()
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());

	SSL_CTX_set_default_verify_paths(context);
	for (;;) {
		call(context, "api.openai.com");
		sleep(1);
	}
}
