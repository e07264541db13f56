/* The lower bound: floor PORT REQUEST END reads one session of a speech service and writes its audio to stdout.
 *
 * REQUEST is a file with the HTTP upgrade and the frames of the client, ready to send. The session ends with the message
 * that contains END. Binary messages are audio; with the END of Fish Audio they are msgpack maps. The base64 of JSON
 * messages is decoded. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <endian.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static unsigned char buffer[1 << 20];
static size_t filled, used;
static int peer;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void write_all(int fd, const void *data, size_t size)
{
    for (const char *at = data; size;) {
        ssize_t done = write(fd, at, size);
        if (done < 0) fail("write");
        at += done;
        size -= done;
    }
}

/* Return the next bytes; they stay valid until the next call. */
static unsigned char *take(size_t size)
{
    if (size > sizeof buffer) exit(2);
    if (used + size > sizeof buffer) {
        memmove(buffer, buffer + used, filled - used);
        filled -= used;
        used = 0;
    }
    while (filled - used < size) {
        ssize_t got = read(peer, buffer + filled, sizeof buffer - filled);
        if (got <= 0) fail("read");
        filled += got;
    }
    used += size;
    return buffer + used - size;
}

static void write_base64(const unsigned char *at, const unsigned char *end)
{
    static signed char values[256];
    static unsigned char audio[1 << 20];
    const char *alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t size = 0;
    uint32_t bits = 0;
    int count = 0;
    if (!values['B'])
        for (int number = 0; number < 64; number++) values[(unsigned char)alphabet[number]] = number;
    for (; at < end && *at != '"' && *at != '='; at++) {
        bits = bits << 6 | values[*at];
        if ((count += 6) >= 8) audio[size++] = bits >> (count -= 8);
    }
    write_all(1, audio, size);
}

static void write_msgpack(const unsigned char *at, const unsigned char *end)
{
    do { /* the value of the field event is the same string */
        at = memmem(at, end - at, "\xa5" "audio", 6);
        if (!at) return;
        at += 6;
    } while (*at < 0xc4 || *at > 0xc6);
    size_t size = *at == 0xc4 ? at[1] : *at == 0xc5 ? at[1] << 8 | at[2] : (size_t)at[1] << 24 | at[2] << 16 | at[3] << 8 | at[4];
    write_all(1, at + (*at == 0xc4 ? 2 : *at == 0xc5 ? 3 : 5), size);
}

int main(int count, char **words)
{
    if (count != 4) return 2;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, is_msgpack = !strcmp(words[3], "finish");
    FILE *file = fopen(words[2], "rb");
    if (!file) fail("fopen");
    size_t size = fread(buffer, 1, sizeof buffer, file);
    unsigned char *head_end = memmem(buffer, size, "\r\n\r\n", 4);
    if (!head_end) return 2;
    peer = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(peer, (struct sockaddr *)&address, sizeof address) < 0) fail("connect");
    size_t head = head_end + 4 - buffer;
    unsigned char *frames = malloc(size - head);
    memcpy(frames, buffer + head, size - head);
    write_all(peer, buffer, head);
    for (unsigned matched = 0; matched < 4;) matched = *take(1) == "\r\n\r\n"[matched] ? matched + 1 : 0;
    write_all(peer, frames, size - head);
    for (;;) {
        unsigned char *start = take(2);
        int opcode = start[0] & 15;
        uint64_t length = start[1] & 127;
        if (length == 126) {
            uint16_t value;
            memcpy(&value, take(2), 2);
            length = be16toh(value);
        } else if (length == 127) {
            memcpy(&length, take(8), 8);
            length = be64toh(length);
        }
        unsigned char *data = take(length), *end = data + length;
        if (opcode == 8) return 1;
        if (opcode == 2 && !is_msgpack) {
            write_all(1, data, length);
            continue;
        }
        if (opcode == 2) write_msgpack(data, end);
        else if (opcode == 1) {
            unsigned char *audio = memmem(data, length, "\"audio\": \"", 10);
            if (audio) write_base64(audio + 10, end);
        } else continue;
        if (memmem(data, length, words[3], strlen(words[3]))) return 0;
    }
}
