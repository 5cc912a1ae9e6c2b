/* A disk that fails on request: loaded with LD_PRELOAD, armed through ctypes by faults.py beside it.
 *
 * Calls on files below one folder are counted by class, and the n-th fails, is cut short, or is the first of all that
 * fail. Everything else goes straight to the kernel. Only for 64-bit Linux.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, CREATE = 2, RENAME = 4, TRUNCATE = 8, UNLINK = 16, SYNC = 32 };
/* LOSE: what a failed sync was to make durable is gone, as Linux drops pages that it could not write. */
enum { STICKY = 1, SHORT = 2, LOSE = 4 };
enum { PASS = 0, CUT_SHORT = -1 };

struct extent {
    dev_t device;
    ino_t inode;
    off_t offset;
    size_t length;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static volatile pid_t owner; /* 0: disarmed. A child inherits the memory, but never the faults. */
static char folder[PATH_MAX], fired_at[PATH_MAX + 32], trace[1 << 20];
static unsigned armed_classes, armed_flags;
static long nth, counted, fired;
static int error_number;
/* What no sync has made durable yet: data in files, and names in folders. */
static struct extent unsynced[1 << 16];
static char unsynced_names[1 << 8][1 << 9];
static size_t unsynced_count, names_count, trace_length;

void faults_arm(const char *path, unsigned classes, long n, int error, unsigned flags)
{
    pthread_mutex_lock(&mutex);
    snprintf(folder, sizeof folder, "%s", path);
    armed_classes = classes, armed_flags = flags, nth = n, error_number = error;
    counted = fired = 0, fired_at[0] = trace[0] = 0, trace_length = 0;
    owner = getpid();
    pthread_mutex_unlock(&mutex);
}

void faults_disarm(void) { owner = 0; }
void faults_forget(void) { unsynced_count = names_count = 0; }
long faults_fired(void) { return fired; }
const char *faults_fired_at(void) { return fired_at; }
const char *faults_trace(void) { return trace; }

static int is_on_disk(const char *path)
{
    size_t length = strlen(folder);
    return !strncmp(path, folder, length) && path[length] == '/';
}

static int is_armed(void) { return owner && owner == getpid(); }

/* The path of an open file if it lies on the failing disk. */
static const char *path_on_disk(int descriptor, char *path)
{
    char link[64];
    ssize_t length;
    if (!is_armed())
        return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (length < 0)
        return NULL;
    path[length] = 0;
    return is_on_disk(path) ? path : NULL;
}

/* PASS, CUT_SHORT, or the error of a call that fails. */
static int verdict(unsigned class, const char *call, const char *path)
{
    int answer = PASS;
    if (!path || !is_armed() || !(class & armed_classes) || !is_on_disk(path))
        return PASS;
    pthread_mutex_lock(&mutex);
    counted++;
    if (sizeof trace - trace_length > PATH_MAX + 32)
        trace_length += (size_t)sprintf(trace + trace_length, "%s %s\n", call, path + strlen(folder) + 1);
    if (counted == nth) {
        snprintf(fired_at, sizeof fired_at, "%s %s", call, path + strlen(folder) + 1);
        answer = class == WRITE && (armed_flags & SHORT) ? CUT_SHORT : error_number;
    } else if (nth && counted > nth && (armed_flags & STICKY)) {
        answer = error_number;
    }
    fired += answer != PASS;
    pthread_mutex_unlock(&mutex);
    return answer;
}

static int failed(int error)
{
    errno = error;
    return -1;
}

/* what would survive if the plug were pulled */

static void remember_name(const char *path)
{
    if (!is_armed() || !is_on_disk(path) || strlen(path) >= sizeof *unsynced_names)
        return;
    pthread_mutex_lock(&mutex);
    if (names_count < sizeof unsynced_names / sizeof *unsynced_names)
        strcpy(unsynced_names[names_count++], path);
    pthread_mutex_unlock(&mutex);
}

/* Drop a name, or with `is_folder` all names in that folder. The mutex is held. */
static void forget_names(const char *path, int is_folder)
{
    size_t kept = 0, length = strlen(path);
    for (size_t i = 0; i < names_count; i++) {
        char *name = unsynced_names[i];
        if (is_folder ? strncmp(name, path, length) || strrchr(name, '/') != name + length : strcmp(name, path)) {
            if (kept != i)
                strcpy(unsynced_names[kept], name);
            kept++;
        }
    }
    names_count = kept;
}

/* Whether a file's data and its name in its folder were made durable, as far as they were written while armed. */
int faults_is_durable(const char *path)
{
    struct stat found;
    int answer = !stat(path, &found);
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < names_count; i++)
        answer = answer && strcmp(unsynced_names[i], path);
    for (size_t i = 0; i < unsynced_count; i++)
        answer = answer && (unsynced[i].device != found.st_dev || unsynced[i].inode != found.st_ino);
    pthread_mutex_unlock(&mutex);
    return answer;
}

/* writing */

static void remember(int descriptor, off_t offset, ssize_t length)
{
    struct stat found;
    if (length <= 0 || fstat(descriptor, &found))
        return;
    pthread_mutex_lock(&mutex);
    if (unsynced_count < sizeof unsynced / sizeof *unsynced)
        unsynced[unsynced_count++] = (struct extent){found.st_dev, found.st_ino, offset, (size_t)length};
    pthread_mutex_unlock(&mutex);
}

static ssize_t written(int descriptor, const struct iovec *parts, int count, off_t offset, int is_placed, const char *call)
{
    char path[PATH_MAX];
    struct iovec rest[64];
    size_t total = 0, left;
    ssize_t length;
    int answer = verdict(WRITE, call, path_on_disk(descriptor, path)), used = 0;
    if (answer > 0)
        return failed(answer);
    if (answer == CUT_SHORT && count <= 64) {
        for (int i = 0; i < count; i++)
            total += parts[i].iov_len;
        left = total > 1 ? total / 2 : total;
        for (; used < count && left; used++) {
            rest[used] = parts[used];
            if (rest[used].iov_len > left)
                rest[used].iov_len = left;
            left -= rest[used].iov_len;
        }
        parts = rest, count = used;
    }
    if (is_placed)
        length = syscall(SYS_pwritev, descriptor, parts, (long)count, (long)offset, 0L);
    else
        length = syscall(SYS_writev, descriptor, parts, (long)count);
    if (length > 0 && is_armed() && path_on_disk(descriptor, path))
        remember(descriptor, is_placed ? offset : lseek(descriptor, 0, SEEK_CUR) - length, length);
    return length;
}

ssize_t write(int descriptor, const void *data, size_t length)
{
    struct iovec part = {(void *)data, length};
    return is_armed() ? written(descriptor, &part, 1, 0, 0, "write") : syscall(SYS_write, descriptor, data, length);
}

ssize_t writev(int descriptor, const struct iovec *parts, int count)
{
    return written(descriptor, parts, count, 0, 0, "writev");
}

ssize_t pwrite64(int descriptor, const void *data, size_t length, off64_t offset)
{
    struct iovec part = {(void *)data, length};
    return written(descriptor, &part, 1, offset, 1, "pwrite");
}

ssize_t pwrite(int descriptor, const void *data, size_t length, off_t offset)
{
    return pwrite64(descriptor, data, length, offset);
}

/* making durable: on a disk that does not fail now it is skipped, since nobody pulls the plug */

/* Forget the unsynced data of a file, after filling it with zeros if it is lost. The mutex is held. */
static void settle(int descriptor, const struct stat *file, int is_lost)
{
    static const char zeros[4096];
    char link[64];
    size_t kept = 0;
    int target = -1;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    if (is_lost)
        target = (int)syscall(SYS_openat, AT_FDCWD, link, O_WRONLY | O_CLOEXEC);
    for (size_t i = 0; i < unsynced_count; i++) {
        struct extent it = unsynced[i];
        if (it.device != file->st_dev || it.inode != file->st_ino) {
            unsynced[kept++] = it;
            continue;
        }
        while (target >= 0 && it.length) {
            ssize_t length = it.length < sizeof zeros ? it.length : sizeof zeros;
            if (syscall(SYS_pwrite64, target, zeros, length, it.offset) != length)
                break;
            it.offset += length, it.length -= length;
        }
    }
    unsynced_count = kept;
    if (target >= 0)
        syscall(SYS_close, target);
}

static int synced(int descriptor, const char *call)
{
    char path[PATH_MAX];
    struct stat found;
    int answer;
    if (!path_on_disk(descriptor, path))
        return (int)syscall(SYS_fsync, descriptor);
    answer = verdict(SYNC, call, path);
    if (fstat(descriptor, &found))
        return -1;
    pthread_mutex_lock(&mutex);
    if (S_ISREG(found.st_mode) && (answer == PASS || armed_flags & LOSE))
        settle(descriptor, &found, answer != PASS);
    else if (S_ISDIR(found.st_mode) && answer == PASS)
        forget_names(path, 1);
    pthread_mutex_unlock(&mutex);
    return answer == PASS ? 0 : failed(answer);
}

int fsync(int descriptor) { return synced(descriptor, "fsync"); }
int fdatasync(int descriptor) { return synced(descriptor, "fdatasync"); }

/* making files and folders, which takes room */

static int is_missing(const char *path) { return is_armed() && syscall(SYS_faccessat, AT_FDCWD, path, F_OK) != 0; }

static int opened(int at, const char *path, int flags, mode_t mode)
{
    int is_new = flags & O_CREAT && is_missing(path);
    int answer = is_new ? verdict(CREATE, "open", path) : PASS;
    int descriptor = answer > 0 ? failed(answer) : (int)syscall(SYS_openat, at, path, flags, mode);
    if (is_new && descriptor >= 0)
        remember_name(path);
    return descriptor;
}

#define MODE_AFTER(flags, mode)                                                                                        \
    mode_t mode = 0;                                                                                                   \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                             \
        va_list more;                                                                                                  \
        va_start(more, flags);                                                                                         \
        mode = va_arg(more, mode_t);                                                                                   \
        va_end(more);                                                                                                  \
    }

int open(const char *path, int flags, ...)
{
    MODE_AFTER(flags, mode)
    return opened(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    MODE_AFTER(flags, mode)
    return opened(AT_FDCWD, path, flags, mode);
}

int openat(int at, const char *path, int flags, ...)
{
    MODE_AFTER(flags, mode)
    return opened(at, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...)
{
    MODE_AFTER(flags, mode)
    return opened(at, path, flags, mode);
}

FILE *fopen64(const char *path, const char *mode)
{
    static FILE *(*real)(const char *, const char *);
    int is_new = *mode != 'r' && is_missing(path);
    int answer = is_new ? verdict(CREATE, "fopen", path) : PASS;
    FILE *file;
    if (answer > 0) {
        errno = answer;
        return NULL;
    }
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "fopen64");
    file = real(path, mode);
    if (is_new && file)
        remember_name(path);
    return file;
}

FILE *fopen(const char *path, const char *mode) { return fopen64(path, mode); }

int mkdir(const char *path, mode_t mode)
{
    int answer = is_missing(path) ? verdict(CREATE, "mkdir", path) : PASS;
    return answer > 0 ? failed(answer) : (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

int link(const char *from, const char *to)
{
    int answer = verdict(CREATE, "link", to);
    return answer > 0 ? failed(answer) : (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int fallocate64(int descriptor, int mode, off64_t offset, off64_t length)
{
    char path[PATH_MAX];
    int answer = verdict(CREATE, "fallocate", path_on_disk(descriptor, path));
    return answer > 0 ? failed(answer) : (int)syscall(SYS_fallocate, descriptor, mode, offset, length);
}

int fallocate(int descriptor, int mode, off_t offset, off_t length)
{
    return fallocate64(descriptor, mode, offset, length);
}

int posix_fallocate64(int descriptor, off64_t offset, off64_t length)
{
    return fallocate64(descriptor, 0, offset, length) ? errno : 0;
}

int posix_fallocate(int descriptor, off_t offset, off_t length)
{
    return posix_fallocate64(descriptor, offset, length);
}

/* changing what is there */

int ftruncate64(int descriptor, off64_t length)
{
    char path[PATH_MAX];
    int answer = verdict(TRUNCATE, "ftruncate", path_on_disk(descriptor, path));
    return answer > 0 ? failed(answer) : (int)syscall(SYS_ftruncate, descriptor, length);
}

int ftruncate(int descriptor, off_t length) { return ftruncate64(descriptor, length); }

int renameat(int from_at, const char *from, int to_at, const char *to)
{
    int answer = verdict(RENAME, "rename", to);
    if (answer > 0 || syscall(SYS_renameat2, from_at, from, to_at, to, 0))
        return answer > 0 ? failed(answer) : -1;
    remember_name(to);
    return 0;
}

int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

int unlink(const char *path)
{
    int answer = verdict(UNLINK, "unlink", path);
    if (answer > 0 || syscall(SYS_unlinkat, AT_FDCWD, path, 0))
        return answer > 0 ? failed(answer) : -1;
    pthread_mutex_lock(&mutex);
    forget_names(path, 0);
    pthread_mutex_unlock(&mutex);
    return 0;
}
