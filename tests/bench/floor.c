/*
 * The floor of the plugin's bench: what the kernel alone takes for a pod, as a one-shot program with raw netlink.
 *
 *   floor add NETNS DEVICE MTU IPV4 [IPV6]   the kernel objects of one ADD of podwire, and nothing else
 *   floor del DEVICE   removes the device, and waits until the kernel has announced that it has gone
 *   floor quiet        makes a pair and removes it: the kernel has then done with what was removed before
 *
 * It has no ledger, parses no JSON, reads no setting before it writes it, and waits for nothing but acknowledgements:
 * podwire also waits until both ends are in operation and the addresses are in use. A setting is written by a file where
 * netlink has no way to it. The node forwards already: the bench has seen to that.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Not every libc's headers have them: uapi/linux/if_link.h, uapi/linux/ip.h, uapi/linux/rtnetlink.h. */
enum { GEN_MODE_NONE = 1, CONF_FORWARDING = 1, CONF_ACCEPT_REDIRECTS = 4, CONF_RP_FILTER = 8, BY_BOOT = 3, BY_PLUGIN = 113 };

#define POD_DEVICE "eth0"

/* Messages that are sent together. */
static char batch[8192] __attribute__((aligned(4)));
static size_t filled;
static struct nlmsghdr *last;

static void fail(const char *wish) {
    fprintf(stderr, "floor: %s: %s\n", wish, strerror(errno));
    exit(1);
}

static void *take(size_t length) {
    void *place = batch + filled;
    memset(place, 0, NLMSG_ALIGN(length));
    filled += NLMSG_ALIGN(length);
    return place;
}

/* Begins a message; `header` is what follows the netlink header. */
static void begin(int type, int flags, const void *header, size_t length) {
    static unsigned int sequence;
    last = take(NLMSG_HDRLEN);
    last->nlmsg_type = (unsigned short)type;
    last->nlmsg_flags = (unsigned short)(NLM_F_REQUEST | flags);
    last->nlmsg_seq = ++sequence;
    memcpy(take(length), header, length);
}

static struct rtattr *put(int type, const void *value, size_t length) {
    struct rtattr *attribute = take(RTA_LENGTH(length));
    attribute->rta_type = (unsigned short)type;
    attribute->rta_len = (unsigned short)RTA_LENGTH(length);
    if (length > 0) memcpy(RTA_DATA(attribute), value, length);
    return attribute;
}

static void put_number(int type, unsigned int value) { put(type, &value, sizeof value); }
static struct rtattr *open_nest(int type) { return put(type | NLA_F_NESTED, NULL, 0); }
static void close_nest(struct rtattr *nest) { nest->rta_len = (unsigned short)(batch + filled - (char *)nest); }
static void end(void) { last->nlmsg_len = (unsigned int)(batch + filled - (char *)last); }

static int open_socket(void) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0) fail("open a netlink socket");
    return fd;
}

/* Sends the batch, and reads until its last message is acknowledged; `see` gets what is no acknowledgement. */
static void execute(int fd, const char *wish, void (*see)(struct nlmsghdr *)) {
    last->nlmsg_flags |= NLM_F_ACK;
    unsigned int awaited = last->nlmsg_seq;
    if (send(fd, batch, filled, 0) != (ssize_t)filled) fail(wish);
    filled = 0;
    for (;;) {
        static char answers[32768] __attribute__((aligned(4)));
        ssize_t length = recv(fd, answers, sizeof answers, 0);
        if (length < 0) fail(wish);
        for (struct nlmsghdr *answer = (void *)answers; NLMSG_OK(answer, length); answer = NLMSG_NEXT(answer, length)) {
            if (answer->nlmsg_type != NLMSG_ERROR) {
                if (see) see(answer);
                continue;
            }
            errno = -((struct nlmsgerr *)NLMSG_DATA(answer))->error;
            if (errno) fail(wish);
            if (answer->nlmsg_seq == awaited) return;
        }
    }
}

/* A proc that nobody else looks at: in the one that all use, a path through sys/net costs more with every namespace. */
static int proc_of_our_own(void) {
    int context = (int)syscall(SYS_fsopen, "proc", FSOPEN_CLOEXEC);
    if (context < 0 || syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) fail("make a proc");
    int mounted = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0);
    if (mounted < 0) fail("mount a proc");
    return mounted;
}

static void setting(int proc, const char *family, const char *device, const char *name, const char *value) {
    char path[256];
    snprintf(path, sizeof path, "sys/net/%s/conf/%s/%s", family, device, name);
    int fd = openat(proc, path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, value, strlen(value)) < 0) fail(path);
    close(fd);
}

static unsigned int outer, inner;

/* The indexes of both ends, out of the description of the one on the host. */
static void see_pair(struct nlmsghdr *answer) {
    struct ifinfomsg *link = NLMSG_DATA(answer);
    int left = (int)IFLA_PAYLOAD(answer);
    outer = (unsigned int)link->ifi_index;
    for (struct rtattr *attribute = IFLA_RTA(link); RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left))
        if (attribute->rta_type == IFLA_LINK) memcpy(&inner, RTA_DATA(attribute), sizeof inner);
}

static void put_end(const char *device, const unsigned char *mac, unsigned int mtu) {
    put(IFLA_IFNAME, device, strlen(device) + 1);
    if (mac) put(IFLA_ADDRESS, mac, 6);
    if (mtu) put_number(IFLA_MTU, mtu);
}

/* A pair; its other end in the namespace `netns`, or here where that is negative. */
static void put_pair(const char *host, const unsigned char *host_mac, const char *pod, const unsigned char *pod_mac,
                     unsigned int mtu, int netns) {
    struct ifinfomsg none = {0};
    begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &none, sizeof none);
    put_end(host, host_mac, mtu);
    struct rtattr *info = open_nest(IFLA_LINKINFO);
    put(IFLA_INFO_KIND, "veth", 4);
    struct rtattr *data = open_nest(IFLA_INFO_DATA);
    struct rtattr *peer = open_nest(VETH_INFO_PEER);
    memcpy(take(sizeof none), &none, sizeof none);
    put_end(pod, pod_mac, mtu);
    if (netns >= 0) put_number(IFLA_NET_NS_FD, (unsigned int)netns);
    close_nest(peer);
    close_nest(data);
    close_nest(info);
    end();
}

static void put_link(unsigned int index, unsigned int flags) {
    struct ifinfomsg link = {.ifi_index = (int)index, .ifi_flags = flags, .ifi_change = flags};
    begin(RTM_SETLINK, 0, &link, sizeof link);
}

static void put_ipv4_settings(const int *settings, const unsigned int *values, int count) {
    struct rtattr *inet = open_nest(AF_INET);
    struct rtattr *conf = open_nest(IFLA_INET_CONF);
    for (int place = 0; place < count; place++) put_number(settings[place], values[place]);
    close_nest(conf);
    close_nest(inet);
}

static void put_address(int family, unsigned int index, const void *address, size_t length) {
    struct ifaddrmsg message = {.ifa_family = (unsigned char)family,
                                .ifa_prefixlen = (unsigned char)(length * 8),
                                .ifa_flags = IFA_F_NODAD,
                                .ifa_index = index};
    begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &message, sizeof message);
    put(IFA_LOCAL, address, length);
    put(IFA_ADDRESS, address, length);
    put_number(IFA_FLAGS, IFA_F_NODAD | IFA_F_NOPREFIXROUTE);
    end();
}

static void put_neighbour(int family, unsigned int index, const void *address, size_t length, const unsigned char *mac) {
    struct ndmsg message = {
        .ndm_family = (unsigned char)family, .ndm_ifindex = (int)index, .ndm_state = NUD_PERMANENT};
    begin(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &message, sizeof message);
    put(NDA_DST, address, length);
    put(NDA_LLADDR, mac, 6);
    end();
}

/* A route to an address (`gateway` is null), or the default route through a gateway (`address` is). */
static void put_route(int family, unsigned int index, const void *address, const void *gateway, size_t length) {
    struct rtmsg message = {.rtm_family = (unsigned char)family,
                            .rtm_dst_len = (unsigned char)(address ? length * 8 : 0),
                            .rtm_table = RT_TABLE_MAIN,
                            .rtm_protocol = address ? BY_PLUGIN : BY_BOOT,
                            .rtm_scope = address ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
                            .rtm_type = RTN_UNICAST,
                            .rtm_flags = gateway ? RTNH_F_ONLINK : 0};
    begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &message, sizeof message);
    if (address) put(RTA_DST, address, length);
    if (gateway) put(RTA_GATEWAY, gateway, length);
    put_number(RTA_OIF, index);
    end();
}

/* As podwire's plan has it, in the order that needs the fewest changes of namespace. */
static void add(const char *netns, const char *device, unsigned int mtu, const char *ipv4, const char *ipv6) {
    const int families[] = {AF_INET, AF_INET6};
    const size_t lengths[] = {4, 16};
    unsigned char addresses[2][16], gateways[2][16];
    const int count = ipv6 ? 2 : 1;
    if (inet_pton(AF_INET, ipv4, addresses[0]) != 1) fail(ipv4);
    if (ipv6 && inet_pton(AF_INET6, ipv6, addresses[1]) != 1) fail(ipv6);
    inet_pton(AF_INET, "169.254.1.1", gateways[0]);
    inet_pton(AF_INET6, "fe80::1", gateways[1]);
    const unsigned char *four = addresses[0];
    const unsigned char host_mac[] = {0x02, 0x01, four[0], four[1], four[2], four[3]};
    const unsigned char pod_mac[] = {0x02, 0x02, four[0], four[1], four[2], four[3]};

    int pod = open(netns, O_RDONLY | O_CLOEXEC), proc = proc_of_our_own();
    if (pod < 0) fail(netns);
    int host = open_socket();
    put_pair(device, host_mac, POD_DEVICE, pod_mac, mtu, pod);
    struct ifinfomsg none = {0};
    begin(RTM_GETLINK, 0, &none, sizeof none);
    put(IFLA_IFNAME, device, strlen(device) + 1);
    end();
    execute(host, "make the pair", see_pair);

    setting(proc, "ipv6", device, "accept_ra", "0");
    setting(proc, "ipv6", device, "accept_redirects", "0");
    /* The mode of link-local addresses counts when the device comes up: a message of its own, before. */
    put_link(outer, 0);
    put(IFLA_IFALIAS, "default/floor", strlen("default/floor"));
    struct rtattr *spec = open_nest(IFLA_AF_SPEC);
    put_ipv4_settings((int[]){CONF_RP_FILTER, CONF_FORWARDING, CONF_ACCEPT_REDIRECTS}, (unsigned int[]){1, 1, 0}, 3);
    struct rtattr *inet6 = open_nest(AF_INET6);
    put(IFLA_INET6_ADDR_GEN_MODE, (unsigned char[]){GEN_MODE_NONE}, 1);
    close_nest(inet6);
    close_nest(spec);
    end();
    put_link(outer, IFF_UP);
    end();
    for (int family = 0; family < count; family++) {
        put_neighbour(families[family], outer, addresses[family], lengths[family], pod_mac);
        put_route(families[family], outer, addresses[family], NULL, lengths[family]);
    }
    execute(host, "set up the host's end", NULL);

    if (setns(pod, CLONE_NEWNET) < 0) fail("enter the pod");
    setting(proc, "ipv6", POD_DEVICE, "accept_ra", "0");
    setting(proc, "ipv6", POD_DEVICE, "accept_redirects", "0");
    if (ipv6) {
        setting(proc, "ipv6", POD_DEVICE, "accept_dad", "0");
        setting(proc, "ipv6", POD_DEVICE, "keep_addr_on_down", "1");
    }
    setting(proc, "ipv4", "all", "accept_redirects", "0");
    int inside = open_socket();
    put_link(inner, IFF_UP);
    spec = open_nest(IFLA_AF_SPEC);
    put_ipv4_settings((int[]){CONF_ACCEPT_REDIRECTS}, (unsigned int[]){0}, 1);
    close_nest(spec);
    end();
    for (int family = 0; family < count; family++) {
        put_address(families[family], inner, addresses[family], lengths[family]);
        put_neighbour(families[family], inner, gateways[family], lengths[family], host_mac);
        put_route(families[family], inner, NULL, gateways[family], lengths[family]);
    }
    put_route(AF_INET, inner, gateways[0], NULL, lengths[0]);
    execute(inside, "set up the pod's end", NULL);
}

static void del(int fd, const char *device) {
    struct ifinfomsg none = {0};
    begin(RTM_DELLINK, 0, &none, sizeof none);
    put(IFLA_IFNAME, device, strlen(device) + 1);
    end();
    execute(fd, "remove the device", NULL);
}

/* The acknowledgement comes some 20 ms after the announcement: a child waits for it, without the caller's pipes. */
static void del_announced(const char *device) {
    int listening = open_socket();
    struct sockaddr_nl links = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    if (bind(listening, (struct sockaddr *)&links, sizeof links) < 0) fail("listen to the kernel");
    unsigned int index = if_nametoindex(device);
    if (index == 0) fail(device);
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
        int nowhere = open("/dev/null", O_RDWR);
        for (int fd = 0; fd < 3; fd++) dup2(nowhere, fd);
        del(open_socket(), device);
        _exit(0);
    }
    for (;;) {
        static char notices[32768] __attribute__((aligned(4)));
        ssize_t length = recv(listening, notices, sizeof notices, 0);
        if (length < 0) fail("wait for the announcement");
        for (struct nlmsghdr *notice = (void *)notices; NLMSG_OK(notice, length); notice = NLMSG_NEXT(notice, length))
            if (notice->nlmsg_type == RTM_DELLINK &&
                ((struct ifinfomsg *)NLMSG_DATA(notice))->ifi_index == (int)index) return;
    }
}

int main(int count, char **arguments) {
    const char *verb = count > 1 ? arguments[1] : "";
    if ((count == 6 || count == 7) && strcmp(verb, "add") == 0) {
        /* Behind the last argument is a null pointer. */
        add(arguments[2], arguments[3], (unsigned int)atoi(arguments[4]), arguments[5], arguments[6]);
    } else if (count == 3 && strcmp(verb, "del") == 0) {
        del_announced(arguments[2]);
    } else if (count == 2 && strcmp(verb, "quiet") == 0) {
        int fd = open_socket();
        put_pair("quiet0", NULL, "quiet1", NULL, 0, -1);
        execute(fd, "make the pair", NULL);
        del(fd, "quiet0");
    } else {
        fprintf(stderr, "usage: floor add NETNS DEVICE MTU IPV4 [IPV6] | floor del DEVICE | floor quiet\n");
        return 2;
    }
    return 0;
}
