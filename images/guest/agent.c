// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp-agent: what the harness does inside a guest, one request per line, one JSON object per answer.
 *
 *	klp-agent			requests on stdin, answers on stdout
 *	klp-agent --port NAME		both on the virtio-serial port of that name
 *
 * Arguments are separated by blanks; within an argument a blank, a newline and '%' are written
 * %XX. Addresses and section addresses are hex strings. A request that cannot be understood is
 * answered by {"error":"..."}. The requests are described above each do_*() function.
 *
 * A module is loaded by exactly one finit_module(), in a race of a copy, and unloaded by exactly one
 * delete_module(): busybox' insmod tries a second time on failure, and the second errno hides the
 * first.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_LINE	(256 * 1024)	/* bytes of one request */
#define MAX_FILE	(64 * 1024)	/* bytes shown of one file */
#define MAX_OUTPUT	(256 * 1024)	/* bytes shown of a command's output */
#define MAX_ARGS	8192
#define MAX_PEEK	4096		/* bytes of one range */
#define MAX_PHDRS	256
#define MAX_AREAS	4096
#define MAX_RACERS	4		/* CONFIG_NR_CPUS of the guest */
#define SETTLE_POLL_MS	3
#define COMPRESSED_FILE	4		/* MODULE_INIT_COMPRESSED_FILE of linux/module.h, 5.17 */

#define KLP_DIR		"/sys/kernel/livepatch"

static char *args[MAX_ARGS];
static int nargs;

/* --- the answer ----------------------------------------------------------------------------- */

static struct {
	char *data;
	size_t len, size;
} answer;

static void put(const char *data, size_t len)
{
	if (answer.len + len > answer.size) {
		answer.size = 2 * (answer.len + len) + 4096;
		answer.data = realloc(answer.data, answer.size);
		if (!answer.data)
			abort();
	}
	memcpy(answer.data + answer.len, data, len);
	answer.len += len;
}

static void puts_(const char *text)
{
	put(text, strlen(text));
}

static void __attribute__((format(printf, 1, 2))) putf(const char *format, ...)
{
	char text[256];
	va_list list;
	int len;

	va_start(list, format);
	len = vsnprintf(text, sizeof(text), format, list);
	va_end(list);
	put(text, len < (int)sizeof(text) ? len : (int)sizeof(text) - 1);
}

/* A JSON string; bytes beyond ASCII come out as the code point of the same number. */
static void put_json(const char *text, size_t len)
{
	puts_("\"");
	for (size_t i = 0; i < len; i++) {
		unsigned char c = text[i];

		if (c == '"' || c == '\\')
			putf("\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			putf("\\u%04x", c);
		else
			put(text + i, 1);
	}
	puts_("\"");
}

static void put_name(const char *text)
{
	put_json(text, strlen(text));
}

static void fail(const char *why)
{
	answer.len = 0;
	puts_("{\"error\":");
	put_name(why);
	puts_("}");
}

/* --- small helpers -------------------------------------------------------------------------- */

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void put_errno(long result, int error, uint64_t began)
{
	putf("{\"errno\":%d,\"usec\":%llu}", result < 0 ? error : 0,
	     (unsigned long long)(now_us() - began));
}

/* Up to size - 1 bytes of a file, terminated; -1 and errno. */
static ssize_t read_file(const char *path, char *buffer, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;

	if (fd < 0)
		return -1;
	while (len < size - 1) {
		ssize_t got = read(fd, buffer + len, size - 1 - len);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			int error = errno;

			close(fd);
			errno = error;
			return -1;
		}
		if (!got)
			break;
		len += got;
	}
	close(fd);
	buffer[len] = 0;
	return len;
}

/* The number in a sysfs file, `missing` when the file has gone. */
static long long read_number(const char *path, long long missing)
{
	char text[64];

	if (read_file(path, text, sizeof(text)) < 0)
		return missing;
	return strtoll(text, NULL, 10);
}

/* Each name in a directory but those with a leading dot; a missing directory is an empty one. */
static struct dirent *next_entry(DIR *dir)
{
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			return entry;
	return NULL;
}

static bool is_directory(const char *path)
{
	DIR *dir = opendir(path);

	if (dir)
		closedir(dir);
	return dir;
}

/* --- requests that change something --------------------------------------------------------- */

/* One of the requests below, with its file open, so that carrying it out is one system call. */
struct change {
	enum { LOAD, UNLOAD, WRITE } kind;
	const char *target, *text;
	int fd, error;	/* error: of opening a file that is to be written */
	int flags;	/* of finit_module() */
};

/* gzip's magic: no ELF file begins so. */
static bool is_compressed(int fd)
{
	unsigned char magic[2];

	return pread(fd, magic, sizeof(magic), 0) == sizeof(magic) &&
	       magic[0] == 0x1f && magic[1] == 0x8b;
}

/* NULL, or what is wrong with the request in words[0..count). */
static const char *prepare(struct change *change, char **words, int count)
{
	*change = (struct change){ .fd = -1 };
	if (!strcmp(words[0], "load")) {
		if (count < 2 || count > 3)
			return "load PATH [PARAMS]";
		change->kind = LOAD;
		change->text = count > 2 ? words[2] : "";
		change->fd = open(words[1], O_RDONLY | O_CLOEXEC);
		if (change->fd < 0)
			return "load: the file cannot be opened";
		change->flags = is_compressed(change->fd) ? COMPRESSED_FILE : 0;
	} else if (!strcmp(words[0], "unload")) {
		if (count != 2)
			return "unload NAME";
		change->kind = UNLOAD;
		change->target = words[1];
	} else if (!strcmp(words[0], "write")) {
		if (count != 3)
			return "write PATH VALUE";
		change->kind = WRITE;
		change->text = words[2];
		change->fd = open(words[1], O_WRONLY | O_CLOEXEC);
		change->error = change->fd < 0 ? errno : 0;
	} else {
		return "one of load, unload and write is needed";
	}
	return NULL;
}

/* Load a copy of the file that nobody else has. Since Linux 6.5 those who load one file at the same
 * time share one load and its result (kernel/module/main.c, idempotent_init_module()), and nothing
 * races. The copy is opened anew: what somebody may write to is not loaded (ETXTBSY).
 */
static const char *take_copy(struct change *change)
{
	char path[64];
	struct stat file;
	off_t at = 0;
	int copy;

	if (change->kind != LOAD)
		return NULL;
	copy = memfd_create("module", MFD_CLOEXEC);
	if (copy < 0 || fstat(change->fd, &file))
		return "load: the file cannot be copied";
	while (at < file.st_size)
		if (sendfile(copy, change->fd, &at, file.st_size - at) <= 0)
			return "load: the file cannot be copied";
	close(change->fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", copy);
	change->fd = open(path, O_RDONLY | O_CLOEXEC);
	close(copy);
	return change->fd < 0 ? "load: the copy cannot be opened" : NULL;
}

/* Its errno, 0 for success. */
static int carry_out(const struct change *change)
{
	long result = -1;

	if (change->error)
		return change->error;
	switch (change->kind) {
	case LOAD:
		result = syscall(SYS_finit_module, change->fd, change->text, change->flags);
		break;
	case UNLOAD:
		result = syscall(SYS_delete_module, change->target, O_NONBLOCK);
		break;
	case WRITE:
		result = write(change->fd, change->text, strlen(change->text));
		break;
	}
	return result < 0 ? errno : 0;
}

static void drop(const struct change *change)
{
	if (change->fd >= 0)
		close(change->fd);
}

/* load PATH [PARAMS] -> {"errno":N,"usec":T}
 * unload NAME -> {"errno":N,"usec":T}
 * write PATH VALUE -> {"errno":N,"usec":T}, errno of opening or of writing
 */
static void do_change(void)
{
	struct change change;
	uint64_t began = now_us();
	const char *wrong = prepare(&change, args, nargs);
	int error;

	if (wrong)
		return fail(wrong);
	error = carry_out(&change);
	put_errno(error ? -1 : 0, error, began);
	drop(&change);
}

/* What racers share. */
struct race {
	int waiting;	/* how many have come to the start */
	int errors[MAX_RACERS];
	uint64_t began[MAX_RACERS], ended[MAX_RACERS];
};

/* Wait on a CPU of our own until all have come, then do it. Runs in a child. */
static void run_racer(struct race *race, const struct change *change, int index, int racers)
{
	cpu_set_t all, own;
	int cpus, skip;

	sched_getaffinity(0, sizeof(all), &all);
	cpus = CPU_COUNT(&all);
	skip = index % cpus;
	CPU_ZERO(&own);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &all) && !skip--)
			CPU_SET(cpu, &own);
	sched_setaffinity(0, sizeof(own), &own);

	/* Spinning, so that all are let go within nanoseconds; but those who share a CPU must let
	 * one another come to the start. */
	__atomic_add_fetch(&race->waiting, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&race->waiting, __ATOMIC_SEQ_CST) < racers)
		if (cpus < racers)
			sched_yield();
	race->began[index] = now_us();
	race->errors[index] = carry_out(change);
	race->ended[index] = now_us();
}

/* race COUNT REQUEST... COUNT REQUEST... -> {"errnos":[N,...],"usec":T}
 *
 * Requests load, unload, write, each with the number of its words before it, at the same time, each
 * by a process on a CPU of its own as far as there are CPUs; each loads what it has read before. usec:
 * from the first start to the last end.
 */
static void do_race(void)
{
	struct change changes[MAX_RACERS];
	pid_t pids[MAX_RACERS];
	struct race *race;
	uint64_t began = UINT64_MAX, ended = 0;
	const char *wrong = NULL;
	int racers = 0, started = 0, status;

	for (int at = 1, count; !wrong && at < nargs; at += 1 + count) {
		count = atoi(args[at]);
		if (racers == MAX_RACERS || count < 1 || count > nargs - at - 1)
			wrong = "race COUNT REQUEST..., at most 4";
		else if (!(wrong = prepare(&changes[racers], args + at + 1, count)))
			wrong = take_copy(&changes[racers++]);
	}
	if (!racers && !wrong)
		wrong = "race COUNT REQUEST...";
	race = mmap(NULL, sizeof(*race), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!wrong && race == MAP_FAILED)
		wrong = "race: no memory";
	for (; !wrong && started < racers; started++) {
		pids[started] = fork();
		if (!pids[started]) {
			run_racer(race, &changes[started], started, racers);
			_exit(0);
		}
		if (pids[started] < 0) {
			wrong = "race: no fork";
			break;
		}
	}
	for (int i = 0; i < started; i++) {
		/* those who wait for one that could not be started would wait for ever */
		if (started < racers)
			kill(pids[i], SIGKILL);
		while (waitpid(pids[i], &status, 0) < 0 && errno == EINTR)
			;
		if (!wrong && status)
			wrong = "race: a racer was killed";
	}
	if (wrong) {
		fail(wrong);
	} else {
		puts_("{\"errnos\":[");
		for (int i = 0; i < racers; i++) {
			putf("%s%d", i ? "," : "", race->errors[i]);
			began = race->began[i] < began ? race->began[i] : began;
			ended = race->ended[i] > ended ? race->ended[i] : ended;
		}
		putf("],\"usec\":%llu}", (unsigned long long)(ended - began));
	}
	for (int i = 0; i < racers; i++)
		drop(&changes[i]);
	if (race != MAP_FAILED)
		munmap(race, sizeof(*race));
}

/*
 * True while a livepatch whose sysfs directory has gone still holds its own module:
 * klp_free_patch_finish() gives that reference back last (kernel/livepatch/core.c), and nothing
 * says how much later its worker goes on (PREEMPT_RT: later than twenty milliseconds).
 *
 * line: of /proc/modules, "NAME SIZE REFERENCES USERS STATE ADDRESS (TAINTS)"; each of USERS, which
 * end in commas, is a reference of its own.
 */
static bool holds_itself(const char *line)
{
	char name[64], users[1024], taints[32] = "", path[600];
	int references, others = 0;

	if (sscanf(line, "%63s %*s %d %1023s %*s %*s %31s", name, &references, users, taints) != 4)
		return false;
	if (taints[0] != '(' || !strchr(taints, 'K'))
		return false;
	for (const char *at = users; *at; at++)
		others += *at == ',';
	snprintf(path, sizeof(path), KLP_DIR "/%s", name);
	return references > others && access(path, F_OK);
}

/* True while a patch is in transition or being taken away, or a module on its way in or out. */
static bool unsettled(void)
{
	static char modules[MAX_FILE];
	DIR *dir = opendir(KLP_DIR);
	struct dirent *entry;
	bool busy = false;
	char path[600];

	while (!busy && (entry = next_entry(dir))) {
		snprintf(path, sizeof(path), KLP_DIR "/%s/transition", entry->d_name);
		busy = read_number(path, 0) != 0;
		/* a disabled patch's directory goes once its transition is done */
		snprintf(path, sizeof(path), KLP_DIR "/%s/enabled", entry->d_name);
		busy = busy || read_number(path, 1) == 0;
	}
	if (dir)
		closedir(dir);
	if (!busy && read_file("/proc/modules", modules, sizeof(modules)) >= 0)
		busy = strstr(modules, " Loading 0x") || strstr(modules, " Unloading 0x");
	for (char *line = modules; !busy && *line; line += strspn(line, "\n")) {
		busy = holds_itself(line);
		line += strcspn(line, "\n");
	}
	return busy;
}

/*
 * Have the clock interrupt again. QEMU may have gone back to a snapshot without the interrupt that
 * the kernel had asked for (of loongarch's timer it keeps the registers only: target/loongarch/
 * machine.c), and the kernel asks for a later one only: whoever sleeps would sleep for ever. What is
 * long past is earlier than anything (kernel/time/hrtimer.c, hrtimer_reprogram()).
 */
static void wake_clock(void)
{
	struct timespec past = { .tv_nsec = 1 };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &past, NULL);
}

/*
 * settle MSEC -> {"errno":0 or ETIMEDOUT,"usec":T}
 *
 * Quiet twice in a row: a look takes several reads, and what it read first may be old by its end.
 */
static void do_settle(void)
{
	uint64_t began = now_us(), limit;
	int quiet = 0;

	if (nargs != 2)
		return fail("settle MSEC");
	wake_clock();
	limit = began + 1000 * strtoull(args[1], NULL, 10);
	for (;;) {
		quiet = unsettled() ? 0 : quiet + 1;
		if (quiet == 2)
			return put_errno(0, 0, began);
		if (!quiet && now_us() >= limit)
			return put_errno(-1, ETIMEDOUT, began);
		poll(NULL, 0, SETTLE_POLL_MS);
	}
}

/* run MSEC COMMAND -> {"status":N,"expired":true|false,"output":"..."}
 * status: the exit status, 128 + N after signal N. Output: both streams, the first 256 KiB.
 */
static void do_run(void)
{
	static char output[MAX_OUTPUT], rest[4096];
	size_t len = 0;
	bool expired = false;
	uint64_t limit;
	int pipes[2], status = 0;
	pid_t pid;

	if (nargs != 3)
		return fail("run MSEC COMMAND");
	limit = now_us() + 1000 * strtoull(args[1], NULL, 10);
	if (pipe2(pipes, O_CLOEXEC))
		return fail("run: no pipe");
	pid = fork();
	if (pid < 0)
		return fail("run: no fork");
	if (!pid) {
		int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

		setsid();
		dup2(null, 0);
		dup2(pipes[1], 1);
		dup2(pipes[1], 2);
		execl("/bin/sh", "sh", "-c", args[2], NULL);
		_exit(127);
	}
	close(pipes[1]);
	for (;;) {
		struct pollfd end = { .fd = pipes[0], .events = POLLIN };
		uint64_t now = now_us();
		bool full = len == sizeof(output);
		ssize_t got;

		if (now >= limit || poll(&end, 1, (limit - now + 999) / 1000) == 0) {
			expired = true;
			kill(-pid, SIGKILL);
			break;
		}
		got = read(pipes[0], full ? rest : output + len,
			   full ? sizeof(rest) : sizeof(output) - len);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		if (!full)
			len += got;
	}
	close(pipes[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	putf("{\"status\":%d,\"expired\":%s,\"output\":", status, expired ? "true" : "false");
	put_json(output, len);
	puts_("}");
}

/* --- requests that look --------------------------------------------------------------------- */

/* hello [TOKEN] -> {"agent":2,"token":"...","release":"...","cmdline":"..."} */
static void do_hello(void)
{
	struct utsname name;
	char cmdline[4096] = "";

	wake_clock();
	uname(&name);
	read_file("/proc/cmdline", cmdline, sizeof(cmdline));
	cmdline[strcspn(cmdline, "\n")] = 0;
	puts_("{\"agent\":2,\"token\":");
	put_name(nargs > 1 ? args[1] : "");
	puts_(",\"release\":");
	put_name(name.release);
	puts_(",\"cmdline\":");
	put_name(cmdline);
	puts_("}");
}

static void observe_modules(void)
{
	char *line = NULL, name[128], state[32], address[32];
	FILE *file = fopen("/proc/modules", "re");
	unsigned long size;
	const char *comma = "";
	size_t room = 0;
	int refs;

	puts_("\"modules\":[");
	while (file && getline(&line, &room, file) > 0) {
		if (sscanf(line, "%127s %lu %d %*s %31s %31s", name, &size, &refs, state,
			   address) != 5)
			continue;
		putf("%s[\"%s\",%lu,%d,\"%s\",\"%s\"]", comma, name, size, refs, state, address);
		comma = ",";
	}
	if (file)
		fclose(file);
	free(line);
	puts_("]");
}

static void observe_patches(void)
{
	DIR *dir = opendir(KLP_DIR);
	const char *comma = "";
	struct dirent *entry;
	char path[1200];

	puts_(",\"patches\":{");
	while ((entry = next_entry(dir))) {
		const char *patch = entry->d_name, *object_comma = "";
		long long enabled, transition;
		struct dirent *object;
		DIR *objects;

		snprintf(path, sizeof(path), KLP_DIR "/%s/enabled", patch);
		enabled = read_number(path, -1);
		snprintf(path, sizeof(path), KLP_DIR "/%s/transition", patch);
		transition = read_number(path, -1);
		if (enabled < 0 || transition < 0)
			continue;	/* it went while we looked */
		puts_(comma);
		put_name(patch);
		putf(":{\"enabled\":%lld,\"transition\":%lld,\"objects\":{", enabled, transition);
		snprintf(path, sizeof(path), KLP_DIR "/%s", patch);
		objects = opendir(path);
		while ((object = next_entry(objects))) {
			const char *function_comma = "";
			struct dirent *function;
			long long patched;
			DIR *functions;

			snprintf(path, sizeof(path), KLP_DIR "/%s/%s/patched", patch,
				 object->d_name);
			patched = read_number(path, -1);
			if (patched < 0)
				continue;	/* not an object, or a kernel before 6.1 */
			puts_(object_comma);
			put_name(object->d_name);
			putf(":[%lld,[", patched);
			snprintf(path, sizeof(path), KLP_DIR "/%s/%s", patch, object->d_name);
			functions = opendir(path);
			while ((function = next_entry(functions))) {
				/* "NAME,SYMPOS"; all else there is plain files */
				if (!strchr(function->d_name, ','))
					continue;
				puts_(function_comma);
				put_name(function->d_name);
				function_comma = ",";
			}
			if (functions)
				closedir(functions);
			puts_("]]");
			object_comma = ",";
		}
		if (objects)
			closedir(objects);
		puts_("}}");
		comma = ",";
	}
	if (dir)
		closedir(dir);
	puts_("}");
}

static void observe_sections(char *modules)
{
	const char *comma = "";
	char path[1200], text[64], *save = NULL;

	puts_(",\"sections\":{");
	if (!strcmp(modules, "-"))
		modules = "";
	for (char *name = strtok_r(modules, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
		const char *section_comma = "";
		struct dirent *entry;
		DIR *dir;

		snprintf(path, sizeof(path), "/sys/module/%s", name);
		if (!is_directory(path))
			continue;
		puts_(comma);
		put_name(name);
		puts_(":{");
		snprintf(path, sizeof(path), "/sys/module/%s/sections", name);
		dir = opendir(path);
		/* section names begin with a dot: this is no job for next_entry() */
		while (dir && (entry = readdir(dir))) {
			if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
				continue;
			snprintf(path, sizeof(path), "/sys/module/%s/sections/%s", name,
				 entry->d_name);
			if (read_file(path, text, sizeof(text)) < 0)
				continue;
			text[strcspn(text, "\n")] = 0;
			puts_(section_comma);
			put_name(entry->d_name);
			puts_(":");
			put_name(text);
			section_comma = ",";
		}
		if (dir)
			closedir(dir);
		puts_("}");
		comma = ",";
	}
	puts_("}");
}

static void observe_files(void)
{
	static char text[MAX_FILE];

	puts_(",\"files\":{");
	for (int i = 2; i < nargs; i++) {
		ssize_t len = read_file(args[i], text, sizeof(text));
		int error = errno;

		if (i > 2)
			puts_(",");
		put_name(args[i]);
		putf(":{\"errno\":%d,\"text\":", len < 0 ? error : 0);
		put_json(text, len < 0 ? 0 : len);
		puts_("}");
	}
	puts_("}");
}

/* observe MODULES FILES... -> modules, patches, sections, files, taint
 * MODULES: separated by commas, or "-". The taint comes last: reading a file may call what taints.
 */
static void do_observe(void)
{
	if (nargs < 2)
		return fail("observe MODULES FILES...");
	puts_("{");
	observe_modules();
	observe_patches();
	observe_sections(args[1]);
	observe_files();
	putf(",\"taint\":%lld}", read_number("/proc/sys/kernel/tainted", -1));
}

static struct {
	uint64_t start, end;
} areas[MAX_AREAS];
static int nareas;

/* The mapped areas of vmalloc and module space. Needs kernel.kptr_restrict=1 (see /init): with 0
 * the addresses are hashed (Documentation/admin-guide/sysctl/kernel.rst). */
static void read_areas(void)
{
	FILE *file = fopen("/proc/vmallocinfo", "re");
	char *line = NULL;
	size_t room = 0;

	nareas = 0;
	while (file && nareas < MAX_AREAS && getline(&line, &room, file) > 0) {
		unsigned long long start, end;

		/* "unpurged" areas are unmapped already (mm/vmalloc.c, show_purge_info()) */
		if (strstr(line, "unpurged") || sscanf(line, "0x%llx-0x%llx", &start, &end) != 2)
			continue;
		areas[nareas].start = start;
		areas[nareas++].end = end - sysconf(_SC_PAGESIZE);	/* the guard page */
	}
	if (file)
		fclose(file);
	free(line);
}

static bool in_area(uint64_t address, uint64_t len)
{
	for (int i = 0; i < nareas; i++)
		if (address >= areas[i].start && address < areas[i].end &&
		    len <= areas[i].end - address)
			return true;
	return false;
}

/* peek ADDR:LEN ... -> {"data":["hex" or null,...]}
 *
 * Kernel memory by virtual address through /proc/kcore: its program headers say which file offset
 * holds which address. A read there does not depend on what the CPU is doing.
 *
 * Where vmalloc or module space is not mapped, kcore of 6.1 "reads" whatever the last read left in
 * its buffer (fs/proc/kcore.c, read_kcore(); mm/vmalloc.c, vread()), so such a range is looked up
 * first. Segments of that space are those without a physical address.
 */
static void do_peek(void)
{
	static Elf64_Phdr headers[MAX_PHDRS];
	static unsigned char bytes[MAX_PEEK];
	Elf64_Ehdr elf;
	int fd = open("/proc/kcore", O_RDONLY | O_CLOEXEC), count = 0;

	if (fd < 0)
		return fail("peek: /proc/kcore cannot be opened");
	if (pread(fd, &elf, sizeof(elf), 0) == sizeof(elf) && elf.e_phnum <= MAX_PHDRS) {
		ssize_t size = elf.e_phnum * sizeof(headers[0]);

		if (pread(fd, headers, size, elf.e_phoff) == size)
			count = elf.e_phnum;
	}
	read_areas();
	puts_("{\"data\":[");
	for (int i = 1; i < nargs; i++) {
		char *end;
		uint64_t address = strtoull(args[i], &end, 16);
		uint64_t len = *end == ':' ? strtoull(end + 1, &end, 10) : 0;
		bool found = false;

		if (*end || !len || len > MAX_PEEK) {
			close(fd);
			return fail("peek: a range is 0xADDRESS:LENGTH, at most 4096 bytes");
		}
		for (int j = 0; j < count && !found; j++) {
			const Elf64_Phdr *h = &headers[j];

			if (h->p_type != PT_LOAD || address < h->p_vaddr ||
			    address - h->p_vaddr >= h->p_memsz ||
			    len > h->p_memsz - (address - h->p_vaddr))
				continue;
			if (h->p_paddr == (uint64_t)-1 && !in_area(address, len))
				continue;
			found = pread(fd, bytes, len, h->p_offset + (address - h->p_vaddr)) ==
				(ssize_t)len;
		}
		puts_(i > 1 ? "," : "");
		if (!found) {
			puts_("null");
			continue;
		}
		puts_("\"");
		for (uint64_t j = 0; j < len; j++)
			putf("%02x", bytes[j]);
		puts_("\"");
	}
	puts_("]}");
	close(fd);
}

/* symbol NAME... -> {"symbols":{"NAME":"0x...",...}}
 *
 * Symbols of the kernel itself, the first of each name; one pass that stops when all are found.
 */
static void do_symbol(void)
{
	char *line = NULL, address[32], name[512], module[8];
	FILE *file = fopen("/proc/kallsyms", "re");
	static bool found[MAX_ARGS];
	const char *comma = "";
	int left = nargs - 1;
	size_t room = 0;

	memset(found, 0, sizeof(found));
	puts_("{\"symbols\":{");
	while (left > 0 && file && getline(&line, &room, file) > 0) {
		/* modules' symbols come after the kernel's and carry a third column */
		if (sscanf(line, "%31s %*c %511s %7s", address, name, module) != 2)
			break;
		for (int i = 1; i < nargs; i++) {
			if (found[i] || strcmp(args[i], name))
				continue;
			putf("%s\"%s\":\"0x%s\"", comma, name, address);
			comma = ",";
			found[i] = true;
			left--;
		}
	}
	if (file)
		fclose(file);
	free(line);
	puts_("}}");
}

/* --- the line loop -------------------------------------------------------------------------- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Undo %XX in place; false on a garbled one. */
static bool decode(char *text)
{
	char *out = text;

	for (; *text; text++) {
		int high, low;

		if (*text != '%') {
			*out++ = *text;
			continue;
		}
		high = hex_digit(text[1]);
		low = high < 0 ? -1 : hex_digit(text[2]);
		if (low < 0 || !(high | low))
			return false;
		*out++ = high << 4 | low;
		text += 2;
	}
	*out = 0;
	return true;
}

static void handle(char *line)
{
	static const struct {
		const char *name;
		void (*call)(void);
	} requests[] = {
		{ "hello", do_hello },	   { "load", do_change },	  { "unload", do_change },
		{ "write", do_change },	   { "race", do_race },	  { "settle", do_settle },
		{ "observe", do_observe }, { "peek", do_peek },	  { "symbol", do_symbol },
		{ "run", do_run },
	};
	char *save = NULL;

	nargs = 0;
	for (char *arg = strtok_r(line, " ", &save); arg; arg = strtok_r(NULL, " ", &save)) {
		if (nargs == MAX_ARGS)
			return fail("too many arguments");
		if (!decode(arg))
			return fail("bad % code");
		args[nargs++] = arg;
	}
	for (size_t i = 0; nargs && i < sizeof(requests) / sizeof(requests[0]); i++)
		if (!strcmp(args[0], requests[i].name))
			return requests[i].call();
	fail("unknown request");
}

static bool send_answer(void)
{
	size_t done = 0;

	put("\n", 1);
	while (done < answer.len) {
		ssize_t put = write(1, answer.data + done, answer.len - done);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return false;
		done += put;
	}
	answer.len = 0;
	return true;
}

/* Serve until the input ends. A virtio port reads 0 bytes while nobody holds the other end, which
 * is not the end: `port` says to wait for the next caller. */
static int serve(bool port)
{
	static char line[MAX_LINE];
	bool skipping = false;	/* the rest of a line that was too long */
	size_t len = 0;

	for (;;) {
		ssize_t got = read(0, line + len, sizeof(line) - len);
		char *start = line, *end;

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0 && !port)
			return got < 0;
		if (got <= 0) {
			len = 0;
			skipping = false;
			poll(NULL, 0, 20);
			continue;
		}
		len += got;
		while ((end = memchr(start, '\n', line + len - start))) {
			*end = 0;
			if (skipping)
				skipping = false;
			else if (end > start) {
				handle(start);
				if (!send_answer() && !port)
					return 1;
				answer.len = 0;
			}
			start = end + 1;
		}
		len = line + len - start;
		memmove(line, start, len);
		if (len == sizeof(line)) {
			if (!skipping) {
				fail("the request is too long");
				send_answer();
			}
			skipping = true;
			len = 0;
		}
	}
}

/* Make stdin and stdout the virtio-serial port of that name; there is no udev to ask. */
static int open_port(const char *wanted)
{
	DIR *dir = opendir("/sys/class/virtio-ports");
	struct dirent *entry;
	char path[600], name[128];
	int fd = -1;

	while (fd < 0 && (entry = next_entry(dir))) {
		snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", entry->d_name);
		if (read_file(path, name, sizeof(name)) < 0)
			continue;
		name[strcspn(name, "\n")] = 0;
		if (strcmp(name, wanted))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
		fd = open(path, O_RDWR);
	}
	if (dir)
		closedir(dir);
	if (fd < 0 || dup2(fd, 0) < 0 || dup2(fd, 1) < 0)
		return -1;
	if (fd > 1)
		close(fd);
	return 0;
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc == 1)
		return serve(false);
	if (argc != 3 || strcmp(argv[1], "--port")) {
		fprintf(stderr, "usage: klp-agent [--port NAME]\n");
		return 2;
	}
	if (open_port(argv[2])) {
		fprintf(stderr, "klp-agent: no virtio-serial port named %s\n", argv[2]);
		return 1;
	}
	return serve(true);
}
