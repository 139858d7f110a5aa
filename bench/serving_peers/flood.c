#define _GNU_SOURCE
/* More requests than a server can answer: flood PORT REQUESTS RATE SECONDS CONNECTIONS

An open loop: requests are due RATE times a second whatever the server does, and each is sent on the connection that
has been free for longest. A latency counts from the moment at which the request was due; those that found no free
connection within a second are counted as unsent. REQUESTS holds whole HTTP requests, each behind its length (4 bytes,
little-endian). Prints one JSON object: answers with 200, with 503, others, percentiles in milliseconds, and in which
share of its turns something was due and no connection was free: then the server holds it up. What has no answer is
told by its cause: another status, a connection that the server closed under a request, or silence: nothing within five
seconds of the end. Where the system tells it, also for which share of the time this program had no core. */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ANSWER 8192
#define BUCKETS 4000000 /* of a microsecond */

struct connection {
    int fd, asked;
    uint64_t due_ns;
    size_t have;
    char answer[ANSWER];
};

static struct connection *all;
static int *idle, idle_first, idle_count, connections;
static uint32_t *taken[2];
static uint64_t counted[2], others, closed, unsent;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void free_again(int which) {
    all[which].asked = 0;
    idle[(idle_first + idle_count++) % connections] = which;
}

static int open_one(int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
    int room = 4 << 20; /* of which the system gives what it may: a request is put into it whole */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* The length of a whole answer, or 0 while some of it is missing. */
static size_t whole(const char *answer, size_t have) {
    const char *end = memmem(answer, have, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t head = end - answer + 4, body = 0;
    for (const char *line = answer; line < end; line = (const char *)memmem(line, end - line + 2, "\r\n", 2) + 2)
        if (!strncasecmp(line, "content-length:", 15)) body = strtoul(line + 15, NULL, 10);
    return have >= head + body ? head + body : 0;
}

static void count(struct connection *c, uint64_t now) {
    int status = atoi(c->answer + 9), kind = status == 503;
    if (status != 200 && status != 503) {
        if (!others++) fprintf(stderr, "%.*s\n", (int)(c->have < 300 ? c->have : 300), c->answer);
        return;
    }
    uint64_t us = (now - c->due_ns) / 1000;
    taken[kind][us < BUCKETS ? us : BUCKETS - 1]++;
    counted[kind]++;
}

static double percentile(int kind, double share) {
    uint64_t most = (uint64_t)(share * counted[kind]), seen = 0;
    for (int us = 0; us < BUCKETS; us++)
        if ((seen += taken[kind][us]) > most) return us / 1000.0;
    return 0;
}

/* For how many seconds this program was ready to run and had no core; -1 where nobody knows. */
static double waited_s(void) {
    double ran, waited;
    FILE *file = fopen("/proc/self/schedstat", "r");
    int found = file ? fscanf(file, "%lf %lf", &ran, &waited) : 0;
    if (file) fclose(file);
    return found == 2 ? waited / 1e9 : -1;
}

int main(int argc, char **argv) {
    if (argc != 6) return 2;
    int port = atoi(argv[1]);
    double rate = atof(argv[3]), seconds = atof(argv[4]);
    connections = atoi(argv[5]);
    signal(SIGPIPE, SIG_IGN);
    char *bodies[4096];
    uint32_t lengths[4096];
    int kinds = 0;
    FILE *file = fopen(argv[2], "rb");
    if (!file) fail(argv[2]);
    while (kinds < 4096 && fread(&lengths[kinds], 4, 1, file) == 1) {
        bodies[kinds] = malloc(lengths[kinds]);
        if (fread(bodies[kinds], 1, lengths[kinds], file) != lengths[kinds]) fail("requests");
        kinds++;
    }
    all = calloc(connections, sizeof *all);
    idle = calloc(connections, sizeof *idle);
    taken[0] = calloc(BUCKETS, sizeof **taken);
    taken[1] = calloc(BUCKETS, sizeof **taken);
    int poller = epoll_create1(0);
    for (int which = 0; which < connections; which++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = which};
        all[which].fd = open_one(port);
        epoll_ctl(poller, EPOLL_CTL_ADD, all[which].fd, &event);
        free_again(which);
    }
    sleep(1); /* the server has accepted them all, whatever it does for that */
    uint64_t began = now_ns(), end = began + (uint64_t)(seconds * 1e9), sent = 0, due = 0, turns = 0, full = 0;
    static struct epoll_event events[1024];
    double waited = waited_s();
    while (1) {
        uint64_t now = now_ns();
        if (now >= end && (idle_count == connections || now > end + 5000000000u)) break;
        uint64_t wanted = (uint64_t)((now < end ? now - began : end - began) / 1e9 * rate);
        turns++;
        full += due < wanted && !idle_count;
        while (due < wanted) {
            uint64_t when = began + (uint64_t)(due / rate * 1e9);
            if (!idle_count) {
                if (now - when < 1000000000u) break;
                unsent++;
                due++;
                continue;
            }
            int which = idle[idle_first], kind = due % kinds;
            struct connection *c = &all[which];
            idle_first = (idle_first + 1) % connections;
            idle_count--;
            due++;
            c->due_ns = when;
            c->have = 0;
            c->asked = 1;
            ssize_t put = write(c->fd, bodies[kind], lengths[kind]);
            if (put != (ssize_t)lengths[kind] && errno != EPIPE && errno != ECONNRESET) fail("write");
            sent++; /* on a connection that was just closed, too: that is seen when it is read */
        }
        int ready = epoll_wait(poller, events, 1024, rate > 500 ? 0 : 1);
        for (int n = 0; n < ready; n++) {
            int which = events[n].data.u32;
            struct connection *c = &all[which];
            ssize_t got = read(c->fd, c->answer + c->have, ANSWER - c->have);
            if (got < 0 && errno == EAGAIN) continue;
            if (got <= 0) { /* a server may end a connection; a request that was under way has no answer */
                int was_asked = c->asked;
                closed += was_asked;
                close(c->fd);
                c->fd = open_one(port);
                struct epoll_event event = {.events = EPOLLIN, .data.u32 = which};
                epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
                if (was_asked) free_again(which);
                continue;
            }
            c->have += got;
            if (whole(c->answer, c->have)) {
                count(c, now_ns());
                free_again(which);
            }
        }
    }
    uint64_t silent = connections - idle_count;
    printf("{\"offered\": %.1f, \"sent\": %lu, \"accepted\": %lu, \"refused\": %lu, \"others\": %lu, "
           "\"closed\": %lu, \"silent\": %lu, "
           "\"accepted_p99_ms\": %.3f, \"refused_p50_ms\": %.3f, \"refused_p99_ms\": %.3f, \"unsent\": %lu, "
           "\"full\": %.3f, \"waited\": %.4f}\n",
           (sent + unsent) / seconds, sent, counted[0], counted[1], others, closed, silent, percentile(0, 0.99),
           percentile(1, 0.5), percentile(1, 0.99), unsent, (double)full / turns,
           waited < 0 ? -1 : (waited_s() - waited) / ((now_ns() - began) / 1e9));
    return 0;
}
