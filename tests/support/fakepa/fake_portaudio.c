/* fake_portaudio.c - a libportaudio.so.2 with a real clock, no sound, and faults on order.
 *
 * Put before the real library by LD_LIBRARY_PATH, so that the real PyAudio runs on top. FPA_DIR names a directory:
 *   script   faults by call: lines "FUNCTION NUMBER CODE [TIMES [FRAMES]]"; FUNCTION init, open, start, stop, close, read,
 *            write or available; NUMBER from 1 since the script was read, 0 any; CODE of PortAudio, or 1 to hang for
 *            good. FRAMES: a read loses so many before it; a write that is -9980 lets the card run dry. Read at each Pa_Initialize at which it is another file.
 *   gone     while it is there: every call on a stream is -9999, opening is -9985, and the card is not listed
 *   shift    so many other devices are listed before ours (a number)
 *   takes    "RATE CHANNELS" that a card takes; all others are -9997 (rate) or -9998 (channels)
 *   speed    of the cards' clocks, 1.0 where it is not there
 *   spam     so many lines a second go to stderr from a thread of its own, from the first Pa_Initialize on
 * and gets:
 *   heard.raw   every frame that a write took
 *   calls       one line for each call of init, terminate, open and close, with its time and its result
 * Frame n of the microphone has the value n modulo 65536, counted by its clock since the process began, whether
 * anybody reads or not.
 *
 * Build: gcc -shared -fPIC -O2 -Wall -Wl,-soname,libportaudio.so.2 -o libportaudio.so.2 fake_portaudio.c -lpthread
 */
#define _GNU_SOURCE
#include <portaudio.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HANG 1
#define MOST_DEVICES 64

enum { INIT, OPEN, START, STOP, CLOSE, READ, WRITE, AVAILABLE, FUNCTIONS };
static const char *const names[FUNCTIONS] = { "init", "open", "start", "stop", "close", "read", "write", "available" };

struct rule { int function; long number; int code; long times, frames; };

typedef struct {
    int output, stopped, running;
    double rate, speed, t_start;
    unsigned channels;
    long period, buffer;
    unsigned long long moved;      /* frames written, or read and lost */
} stream_t;

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static struct rule rules[4096];
static int n_rules, initialized, spamming;
static long calls[FUNCTIONS];
static ino_t script_ino;
static struct timespec script_time;
static double t_birth;
static PaDeviceInfo devices[MOST_DEVICES];
static int n_devices;
static FILE *heard;

static double now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec + ts.tv_nsec * 1e-9;
}

static void nap(double seconds)
{
    if (seconds <= 0) return;
    struct timespec ts = { (time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9) };
    nanosleep(&ts, NULL);
}

static const char *file(const char *name)
{
    static __thread char path[4096];
    const char *folder = getenv("FPA_DIR");
    snprintf(path, sizeof path, "%s/%s", folder ? folder : "/nonexistent", name);
    return path;
}

static int there(const char *name) { return access(file(name), F_OK) == 0; }

static double number(const char *name, double otherwise)
{
    FILE *f = fopen(file(name), "re");
    double value = otherwise;
    if (!f) return otherwise;
    if (fscanf(f, "%lf", &value) != 1) value = otherwise;
    fclose(f);
    return value;
}

static void note(const char *what, int code, const char *more)
{
    FILE *f = fopen(file("calls"), "ae");
    if (!f) return;
    fprintf(f, "%.3f %s %d %s\n", now(), what, code, more);
    fclose(f);
}

static void read_script(void)
{
    struct stat st;
    char line[200], function[20];
    if (stat(file("script"), &st) != 0) return;
    if (st.st_ino == script_ino && st.st_mtim.tv_sec == script_time.tv_sec && st.st_mtim.tv_nsec == script_time.tv_nsec) return;
    script_ino = st.st_ino;
    script_time = st.st_mtim;
    n_rules = 0;
    memset(calls, 0, sizeof calls);
    FILE *f = fopen(file("script"), "re");
    while (f && fgets(line, sizeof line, f) && n_rules < (int)(sizeof rules / sizeof rules[0])) {
        struct rule r = { 0, 0, 0, 1, 0 };
        if (sscanf(line, "%19s %ld %d %ld %ld", function, &r.number, &r.code, &r.times, &r.frames) < 3) continue;
        for (r.function = 0; r.function < FUNCTIONS && strcmp(names[r.function], function); r.function++);
        if (r.function < FUNCTIONS) rules[n_rules++] = r;
    }
    if (f) fclose(f);
}

/* What the script wants of this call: a code, 0 if nothing; `frames` a read is to lose. Hangs for good if so ordered. */
static int ordered(int function, long *frames)
{
    int code = 0;
    pthread_mutex_lock(&mu);
    long call = ++calls[function];
    for (int i = 0; i < n_rules; i++) {
        struct rule *r = &rules[i];
        if (r->function != function || r->times <= 0) continue;
        if (r->number && (call < r->number || call >= r->number + r->times)) continue;
        if (!r->number) r->times--;
        code = r->code;
        if (frames) *frames = r->frames;
        break;
    }
    pthread_mutex_unlock(&mu);
    if (code == HANG) for (;;) pause();
    return code;
}

static void *spam(void *unused)
{
    long lines = (long)number("spam", 0);
    for (;;) {
        for (long i = 0; i < lines / 100; i++)
            fprintf(stderr, "ALSA lib pcm.c:8545:(snd_pcm_recover) underrun occurred %ld\n", i);
        nap(0.01);
    }
    return unused;
}

static void add(const char *name, int inputs, int outputs)
{
    if (n_devices >= MOST_DEVICES) return;
    PaDeviceInfo *d = &devices[n_devices++];
    free((char *)d->name);
    *d = (PaDeviceInfo){ 2, strdup(name), 0, inputs, outputs, 0.0087, 0.0087, 0.0348, 0.0348, 44100.0 };
}

PaError Pa_Initialize(void)
{
    char more[40];
    pthread_mutex_lock(&mu);
    if (!t_birth) t_birth = now();
    read_script();
    pthread_mutex_unlock(&mu);
    fprintf(stderr, "ALSA lib conf.c:5180:(snd_config_expand) Evaluate error: No such file or directory\n");
    int code = ordered(INIT, NULL);
    pthread_mutex_lock(&mu);
    if (!code && !initialized++) {        /* the list is made once, as in the real library */
        n_devices = 0;
        for (int i = (int)number("shift", 0); i > 0; i--) add("something else", 2, 2);
        add("default", 128, 128);
        add("voice_agent_source", 128, 128);
        add("voice_agent_sink", 128, 128);
        if (!there("gone")) add("USB PnP", 1, 2);
    }
    if (!spamming && there("spam")) {
        pthread_t thread;
        spamming = pthread_create(&thread, NULL, spam, NULL) == 0;
    }
    snprintf(more, sizeof more, "%d devices", n_devices);
    pthread_mutex_unlock(&mu);
    note("init", code, more);
    return code;
}

PaError Pa_Terminate(void)
{
    pthread_mutex_lock(&mu);
    initialized--;
    pthread_mutex_unlock(&mu);
    note("terminate", 0, "");
    return paNoError;
}

int Pa_GetVersion(void) { return 0x130600; }
const char *Pa_GetVersionText(void) { return "a fake PortAudio"; }
PaHostApiIndex Pa_GetHostApiCount(void) { return 1; }
PaHostApiIndex Pa_GetDefaultHostApi(void) { return 0; }
PaDeviceIndex Pa_GetDeviceCount(void) { return n_devices; }
PaDeviceIndex Pa_GetDefaultInputDevice(void) { return 0; }
PaDeviceIndex Pa_GetDefaultOutputDevice(void) { return 0; }
double Pa_GetStreamCpuLoad(PaStream *s) { return 0.0; }
PaTime Pa_GetStreamTime(PaStream *s) { return now(); }

const PaHostApiInfo *Pa_GetHostApiInfo(PaHostApiIndex api)
{
    static PaHostApiInfo info = { 1, paALSA, "ALSA", 0, 0, 0 };
    info.deviceCount = n_devices;
    return api == 0 ? &info : NULL;
}

PaHostApiIndex Pa_HostApiTypeIdToHostApiIndex(PaHostApiTypeId type) { return type == paALSA ? 0 : paHostApiNotFound; }
PaDeviceIndex Pa_HostApiDeviceIndexToDeviceIndex(PaHostApiIndex api, int index) { return index; }
const PaDeviceInfo *Pa_GetDeviceInfo(PaDeviceIndex i) { return i >= 0 && i < n_devices ? &devices[i] : NULL; }

const char *Pa_GetErrorText(PaError code)
{
    switch (code) {
    case paUnanticipatedHostError: return "Unanticipated host error";
    case paInvalidSampleRate: return "Invalid sample rate";
    case paInvalidChannelCount: return "Invalid number of channels";
    case paDeviceUnavailable: return "Device unavailable";
    case paInputOverflowed: return "Input overflowed";
    case paOutputUnderflowed: return "Output underflowed";
    default: return code ? "Some error" : "Success";
    }
}

PaError Pa_GetSampleSize(PaSampleFormat format) { return format == paInt16 ? 2 : 4; }

static PaError refused(double rate, int channels)
{
    double takes_rate;
    int takes_channels;
    FILE *f = fopen(file("takes"), "re");
    int code = paNoError;
    if (!f) return paNoError;
    if (fscanf(f, "%lf %d", &takes_rate, &takes_channels) == 2)
        code = takes_channels != channels ? paInvalidChannelCount : takes_rate != rate ? paInvalidSampleRate : paNoError;
    fclose(f);
    return code;
}

PaError Pa_IsFormatSupported(const PaStreamParameters *in, const PaStreamParameters *out, double rate)
{
    return refused(rate, out ? out->channelCount : in->channelCount);
}

PaError Pa_OpenStream(PaStream **made, const PaStreamParameters *in, const PaStreamParameters *out, double rate,
                      unsigned long frames, PaStreamFlags flags, PaStreamCallback *callback, void *user)
{
    char more[100];
    int channels = out ? out->channelCount : in->channelCount;
    int code = ordered(OPEN, NULL);
    if (!code && there("gone")) code = paDeviceUnavailable;
    if (!code) code = refused(rate, channels);
    snprintf(more, sizeof more, "%s %.0f Hz %d channels %lu frames device %d", out ? "output" : "input", rate, channels,
             frames, out ? out->device : in->device);
    note("open", code, more);
    if (code) return code;
    stream_t *s = calloc(1, sizeof *s);
    s->output = out != NULL;
    s->rate = rate;
    s->speed = number("speed", 1.0);
    s->channels = (unsigned)channels;
    s->period = frames ? (long)frames : 256;
    s->buffer = 3 * s->period;
    s->stopped = 1;
    *made = s;
    return paNoError;
}

PaError Pa_CloseStream(PaStream *p)
{
    int code = ordered(CLOSE, NULL);
    note("close", code, "");
    free(p);
    return code;
}

const PaStreamInfo *Pa_GetStreamInfo(PaStream *p)
{
    static PaStreamInfo info;
    stream_t *s = p;
    info = (PaStreamInfo){ 1, 0.0, 0.0, s->rate };
    return &info;
}

static unsigned long long air(stream_t *s) { return (unsigned long long)((now() - t_birth) * s->rate * s->speed); }

PaError Pa_StartStream(PaStream *p)
{
    stream_t *s = p;
    int code = ordered(START, NULL);
    if (!code && there("gone")) code = paUnanticipatedHostError;
    if (code) return code;
    s->stopped = 0;
    s->running = 0;
    s->moved = s->output ? 0 : air(s);
    return paNoError;
}

PaError Pa_StopStream(PaStream *p)
{
    int code = ordered(STOP, NULL);
    ((stream_t *)p)->stopped = 1;
    return code;
}

PaError Pa_AbortStream(PaStream *p) { return Pa_StopStream(p); }
PaError Pa_IsStreamStopped(PaStream *p) { return ((stream_t *)p)->stopped; }
PaError Pa_IsStreamActive(PaStream *p) { return !((stream_t *)p)->stopped; }

static long played(stream_t *s)          /* of what was written since the start; a card that runs dry waits */
{
    if (!s->running) return 0;
    double done = (now() - s->t_start) * s->rate * s->speed;
    if (done > (double)s->moved) {
        s->t_start += (done - (double)s->moved) / (s->rate * s->speed);
        return (long)s->moved;
    }
    return (long)done;
}

static long ready(stream_t *s)
{
    if (s->output) return s->buffer - ((long)s->moved - played(s));
    unsigned long long there_are = air(s);
    return there_are > s->moved ? (long)(there_are - s->moved) : 0;
}

static long available(PaStream *p)
{
    int code = ordered(AVAILABLE, NULL);
    if (!code && there("gone")) code = paUnanticipatedHostError;
    return code ? code : ready(p);
}

signed long Pa_GetStreamWriteAvailable(PaStream *p) { return available(p); }
signed long Pa_GetStreamReadAvailable(PaStream *p) { return available(p); }

PaError Pa_WriteStream(PaStream *p, const void *data, unsigned long frames)
{
    stream_t *s = p;
    int code = ordered(WRITE, NULL);
    if (!code && there("gone")) code = paUnanticipatedHostError;
    if (code && code != paOutputUnderflowed) return code;
    for (long lacking; (lacking = (long)frames - ready(s)) > 0 && (long)frames <= s->buffer;) nap(lacking / s->rate / s->speed);
    if (!s->running) s->t_start = now();
    s->running = 1;
    s->moved += frames;
    if (code) s->t_start -= s->moved / s->rate / s->speed;      /* it has played all there was, and runs dry */
    pthread_mutex_lock(&mu);
    if (!heard) heard = fopen(file("heard.raw"), "ae");
    if (heard) {
        fwrite(data, 2 * s->channels, frames, heard);
        fflush(heard);
    }
    pthread_mutex_unlock(&mu);
    return code;
}

PaError Pa_ReadStream(PaStream *p, void *data, unsigned long frames)
{
    stream_t *s = p;
    long lost = 0;
    int code = ordered(READ, &lost);
    if (!code && there("gone")) code = paUnanticipatedHostError;
    if (code && code != paInputOverflowed) return code;
    s->moved += (unsigned long long)lost;
    for (long lacking; (lacking = (long)frames - ready(s)) > 0;) nap(lacking / s->rate / s->speed);
    short *out = data;
    for (unsigned long i = 0; i < frames; i++, s->moved++)
        for (unsigned c = 0; c < s->channels; c++) *out++ = (short)s->moved;
    return code;
}
