/* SPDX-License-Identifier: Apache-2.0 */
/* Where things are in a packet that starts with its IP header, as cgroup_skb sees it. */
#ifndef SONDE_PACKET_H
#define SONDE_PACKET_H

#include "common.h"

#define TCP 6 /* IPPROTO_TCP */
#define UDP 17 /* IPPROTO_UDP */
#define MAX_EXTENSIONS 4 /* IPv6 headers before the transport's; real packets have 0 or 1 */

struct packet {
	u16 family; /* 4 or 6 */
	u16 protocol;
	u32 transport; /* where the TCP or UDP header starts */
	u8 to[16]; /* destination address */
};

/* Hop-by-hop options, routing and destination options (RFC 8200 section 4) share a form. */
static __always_inline bool is_extension(u8 protocol)
{
	return protocol == 0 || protocol == 43 || protocol == 60;
}

static __always_inline bool find_transport(struct __sk_buff *skb, struct packet *packet)
{
	u8 ip[40] = {};

	if (bpf_skb_load_bytes(skb, 0, ip, 20))
		return false;
	if (ip[0] >> 4 == 4) {
		packet->family = 4;
		packet->protocol = ip[9];
		packet->transport = (ip[0] & 0xf) * 4;
		__builtin_memcpy(packet->to, ip + 16, 4);
		return true;
	}
	if (bpf_skb_load_bytes(skb, 0, ip, 40))
		return false;
	packet->family = 6;
	packet->protocol = ip[6];
	packet->transport = 40;
	__builtin_memcpy(packet->to, ip + 24, 16);
	for (u32 i = 0; i < MAX_EXTENSIONS && is_extension(packet->protocol); i++) {
		u8 extension[2] = {};

		if (bpf_skb_load_bytes(skb, packet->transport, extension, sizeof(extension)))
			return false;
		packet->protocol = extension[0];
		packet->transport += 8 + extension[1] * 8;
	}
	return true;
}

#endif
