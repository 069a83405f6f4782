/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Plays the scenarios of tests/reference/kvm.jsonl on this machine's KVM and prints them with the rows it saw, in the
 * same form. Written from the public documentation of the KVM API (Documentation/virt/kvm/api.rst).
 *
 * Not verified on hardware: until somebody runs it on a machine with virtual NMIs and contributes the file, nothing in
 * this project about virtual NMIs is.
 *
 * The guest runs in 16-bit real mode, because that needs no page tables; only the order of events matters.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

enum {
	MEMORY = 0x10000,
	NMI_COUNT = 0x500,
	INT40_COUNT = 0x502,
	MAIN = 0x1000,
	NMI_HANDLER = 0x2000,
	INT40_HANDLER = 0x3000,
	DEFAULT_HANDLER = 0x4000,
	STACK = 0x7000,
	ROOM = 0x800,		/* bytes for one program */
	LONGEST_LINE = 1 << 20,
	MOST_ENTRIES = 1000,	/* of KVM_RUN in one step */
	NMI_VECTOR = 2,
	INT40_VECTOR = 0x40,
};

struct machine {
	int vm, vcpu;
	uint8_t *memory;
	struct kvm_run *run;
	size_t run_size;
};

static int marker = -1;		/* the tracefs file trace_marker, where rows are marked for exit tracing */

static void die(const char *what, const char *value)
{
	fprintf(stderr, "kvm-recorder: %s: %s\n", what, value);
	exit(2);
}

static int checked(int result, const char *what)
{
	if (result < 0)
		die(what, strerror(errno));
	return result;
}

/* --- the little of JSON that these files need: strings, and lists of strings, by key ---------------------------- */

/* Return where the value of a key starts at or after `from`, or NULL. */
static const char *find(const char *from, const char *key)
{
	char quoted[64];
	const char *at;

	snprintf(quoted, sizeof(quoted), "\"%s\"", key);
	at = strstr(from, quoted);
	if (!at)
		return NULL;
	at += strlen(quoted);
	while (*at == ' ' || *at == ':')
		at++;
	return at;
}

/* Copy the string that starts at `at`, and return what follows it; NULL when there is no string of that length. */
static const char *copy_string(const char *at, char *out, size_t size)
{
	size_t n = 0;

	if (!at || *at++ != '"')
		return NULL;
	while (*at && *at != '"') {
		if (*at == '\\' || n + 1 >= size)
			return NULL;
		out[n++] = *at++;
	}
	out[n] = 0;
	return *at ? at + 1 : NULL;
}

/* --- the guest --------------------------------------------------------------------------------------------------- */

struct mini {
	const char *name;
	uint8_t length, bytes[2];
};

static const struct mini MINI[] = {
	{ "nop", 1, { 0x90 } },	    { "hlt", 1, { 0xf4 } },	   { "cli", 1, { 0xfa } },
	{ "sti", 1, { 0xfb } },	    { "iret", 1, { 0xcf } },	   { "pause", 2, { 0xf3, 0x90 } },
	{ "mov ss", 2, { 0x8e, 0xd0 } }, /* mov ss, ax */
};

/* Assemble one instruction at `out` and return its length; `counter` is what "count" increments. */
static size_t assemble_one(const char *name, uint8_t *out, uint16_t counter)
{
	unsigned int port;
	size_t i;

	if (!strcmp(name, "count")) { /* inc word [counter] */
		out[0] = 0xff;
		out[1] = 0x06;
		out[2] = (uint8_t)counter;
		out[3] = (uint8_t)(counter >> 8);
		return 4;
	}
	if (sscanf(name, "out 0x%2x", &port) == 1) {
		out[0] = 0xe6;
		out[1] = (uint8_t)port;
		return 2;
	}
	for (i = 0; i < sizeof(MINI) / sizeof(MINI[0]); i++) {
		if (!strcmp(name, MINI[i].name)) {
			memcpy(out, MINI[i].bytes, MINI[i].length);
			return MINI[i].length;
		}
	}
	die("unknown guest instruction", name);
	return 0;
}

/* Assemble the list of instructions at `at` (a JSON list, or null) and return the number of bytes. */
static size_t assemble(const char *at, uint8_t *out, uint16_t counter)
{
	char name[64];
	size_t length = 0;

	if (!at || *at++ != '[')
		return 0;
	while (*at && *at != ']') {
		if (*at != '"') {
			at++;
			continue;
		}
		at = copy_string(at, name, sizeof(name));
		if (!at || length + 4 > ROOM)
			die("a program is too long or no list of names", name);
		length += assemble_one(name, out + length, counter);
	}
	return length;
}

static void set_vector(uint8_t *memory, int vector, uint16_t address)
{
	memory[4 * vector] = (uint8_t)address;
	memory[4 * vector + 1] = (uint8_t)(address >> 8);
	memory[4 * vector + 2] = memory[4 * vector + 3] = 0;
}

/* Lay out the scenario on one line: programs, interrupt vectors, and one interrupt frame on the stack. */
static void load(const char *line, uint8_t *memory)
{
	const uint16_t frame[3] = { MAIN, 0, 2 }; /* IP, CS, FLAGS: IF is 0 */
	int vector;

	memset(memory, 0, MEMORY);
	memset(memory + MAIN, 0xf4, ROOM); /* HLT behind main */
	memory[DEFAULT_HANDLER] = 0xcf;
	for (vector = 0; vector < 256; vector++)
		set_vector(memory, vector, DEFAULT_HANDLER);
	assemble(find(line, "main"), memory + MAIN, NMI_COUNT);
	if (assemble(find(line, "nmi_handler"), memory + NMI_HANDLER, NMI_COUNT))
		set_vector(memory, NMI_VECTOR, NMI_HANDLER);
	if (assemble(find(line, "int40_handler"), memory + INT40_HANDLER, INT40_COUNT))
		set_vector(memory, INT40_VECTOR, INT40_HANDLER);
	memcpy(memory + STACK - sizeof(frame), frame, sizeof(frame));
}

/* --- the machine -------------------------------------------------------------------------------------------------- */

static void set_registers(int vcpu)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = { .rip = MAIN, .rflags = 2, .rsp = STACK - 6 };

	checked(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	sregs.cs.selector = sregs.ss.selector = sregs.ds.selector = 0;
	sregs.cs.base = sregs.ss.base = sregs.ds.base = 0;
	checked(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	checked(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

/* Make a virtual machine with one vCPU and no interrupt controller: HLT and NMIs are user space's. */
static struct machine start(int kvm, const char *line)
{
	struct machine m;
	struct kvm_userspace_memory_region region = { .memory_size = MEMORY };

	m.memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (m.memory == MAP_FAILED)
		die("mmap", strerror(errno));
	load(line, m.memory);
	m.vm = checked(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	region.userspace_addr = (uintptr_t)m.memory;
	checked(ioctl(m.vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
	m.vcpu = checked(ioctl(m.vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	m.run_size = (size_t)checked(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
	m.run = mmap(NULL, m.run_size, PROT_READ | PROT_WRITE, MAP_SHARED, m.vcpu, 0);
	if (m.run == MAP_FAILED)
		die("mmap of the vCPU", strerror(errno));
	set_registers(m.vcpu);
	return m;
}

static void stop(struct machine *m)
{
	munmap(m->run, m->run_size);
	munmap(m->memory, MEMORY);
	close(m->vcpu);
	close(m->vm);
}

/* KVM_RUN until an OUT or HLT; an OUT is completed, so that RIP is past it. */
static void run(struct machine *m, char *said, size_t size)
{
	int entries;

	for (entries = 0; entries < MOST_ENTRIES; entries++) {
		if (ioctl(m->vcpu, KVM_RUN, 0) < 0) {
			if (errno == EINTR)
				continue;
			die("KVM_RUN", strerror(errno));
		}
		if (m->run->exit_reason == KVM_EXIT_INTR)
			continue;
		if (m->run->exit_reason == KVM_EXIT_HLT) {
			snprintf(said, size, "HLT");
			return;
		}
		if (m->run->exit_reason != KVM_EXIT_IO) {
			snprintf(said, size, "EXIT %u", m->run->exit_reason);
			return;
		}
		snprintf(said, size, "OUT 0x%x", m->run->io.port);
		m->run->immediate_exit = 1;
		if (ioctl(m->vcpu, KVM_RUN, 0) < 0 && errno != EINTR)
			die("KVM_RUN", strerror(errno));
		m->run->immediate_exit = 0;
		return;
	}
	snprintf(said, size, "no stop");
}

/* KVM_SET_VCPU_EVENTS with what is not -1 changed. */
static int set_events(int vcpu, int pending, int injected, int masked, int shadow)
{
	struct kvm_vcpu_events events;

	checked(ioctl(vcpu, KVM_GET_VCPU_EVENTS, &events), "KVM_GET_VCPU_EVENTS");
	events.flags &= ~(unsigned int)KVM_VCPUEVENT_VALID_NMI_PENDING;
	if (pending >= 0) {
		events.nmi.pending = (uint8_t)pending;
		events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING;
	}
	if (injected >= 0)
		events.nmi.injected = (uint8_t)injected;
	if (masked >= 0)
		events.nmi.masked = (uint8_t)masked;
	if (shadow >= 0) {
		events.interrupt.shadow = (uint8_t)shadow;
		events.flags |= KVM_VCPUEVENT_VALID_SHADOW;
	}
	return ioctl(vcpu, KVM_SET_VCPU_EVENTS, &events);
}

/* Do one step of a scenario; `said` becomes what it was, with where a run stopped. */
static void step(struct machine *m, const char *text, char *said, size_t size)
{
	int p = -1, i = -1, k = -1, s = -1, result;

	snprintf(said, size, "%s", text);
	if (sscanf(text, "NMI x%d", &k) == 1) {
		while (k-- > 0)
			checked(ioctl(m->vcpu, KVM_NMI), "KVM_NMI");
	} else if (sscanf(text, "SET masked=%d", &k) == 1) {
		result = set_events(m->vcpu, -1, -1, k, -1);
		snprintf(said, size, "SET masked=%d rc=%d", k, result);
	} else if (sscanf(text, "SETEV p=%d i=%d m=%d s=%d", &p, &i, &k, &s) == 4) {
		result = set_events(m->vcpu, p, i, k, s);
		snprintf(said, size, "SETEV p=%d i=%d m=%d s=%d rc=%d", p, i, k, s, result);
	} else if (!strcmp(text, "HLT") || !strncmp(text, "OUT ", 4)) {
		run(m, said, size);
	} else if (strcmp(text, "start") != 0) {
		die("unknown step", text);
	}
}

/* --- what is printed ----------------------------------------------------------------------------------------------- */

static void print_row(struct machine *m, const char *said, int is_first)
{
	struct kvm_vcpu_events events;
	struct kvm_regs regs;

	checked(ioctl(m->vcpu, KVM_GET_VCPU_EVENTS, &events), "KVM_GET_VCPU_EVENTS");
	checked(ioctl(m->vcpu, KVM_GET_REGS, &regs), "KVM_GET_REGS");
	printf("%s{\"step\":\"%s\",\"pending\":%u,\"injected\":%u,\"masked\":%u,\"shadow\":%s,\"nmi_count\":%u,\"IF\":%u}",
	       is_first ? "" : ",", said, events.nmi.pending, events.nmi.injected, events.nmi.masked,
	       events.interrupt.shadow ? "true" : "false",
	       (unsigned int)(m->memory[NMI_COUNT] | m->memory[NMI_COUNT + 1] << 8), (unsigned int)(regs.rflags >> 9 & 1));
}

/* Print a list of names, or null, as it stands on the line. */
static void print_list(const char *line, const char *key)
{
	const char *at = find(line, key), *end = at && *at == '[' ? strchr(at, ']') : NULL;

	printf("\"%s\":%.*s,", key, end ? (int)(end - at + 1) : 4, end ? at : "null");
}

static void mark(const char *scenario, int row)
{
	char text[160];
	int length = snprintf(text, sizeof(text), "vnmi_lab %s row %d\n", scenario, row);

	if (marker >= 0 && write(marker, text, (size_t)length) < 0)
		die("trace_marker", strerror(errno));
}

/* Play the scenario on one line; with kvm < 0 only say what would be played. */
static void play(int kvm, const char *line, const char *source)
{
	char scenario[96], text[96], said[128];
	const char *at = find(line, "rows");
	struct machine m = { .vm = -1, .vcpu = -1 };
	int row = 0;

	if (!copy_string(find(line, "scenario"), scenario, sizeof(scenario)) || !at)
		die("no scenario with rows on this line", line);
	if (kvm < 0) {
		uint8_t *memory = malloc(MEMORY);

		if (!memory)
			die("malloc", strerror(errno));
		load(line, memory);
		free(memory);
		while ((at = find(at, "step")) != NULL)
			row++;
		printf("%s: %d steps\n", scenario, row);
		return;
	}
	m = start(kvm, line);
	printf("{\"scenario\":\"%s\",\"source\":\"%s\",", scenario, source);
	print_list(line, "main");
	print_list(line, "nmi_handler");
	print_list(line, "int40_handler");
	printf("\"rows\":[");
	while ((at = find(at, "step")) != NULL) {
		if (!copy_string(at, text, sizeof(text)))
			die("a step must be a short string", scenario);
		mark(scenario, row);
		step(&m, text, said, sizeof(said));
		print_row(&m, said, row++ == 0);
	}
	printf("]}\n");
	stop(&m);
}

/* Say what was recorded from: the kernel, and whether its kvm_amd uses virtual NMIs. */
static void describe(char *out, size_t size)
{
	FILE *parameter = fopen("/sys/module/kvm_amd/parameters/vnmi", "r");
	int vnmi = parameter ? fgetc(parameter) : '?';
	struct utsname name;

	if (parameter)
		fclose(parameter);
	else if (access("/sys/module/kvm_amd", F_OK) != 0)
		fprintf(stderr, "kvm-recorder: this is not kvm_amd: the rows say nothing about AMD SVM\n");
	uname(&name);
	snprintf(out, size, "Linux %.64s %s vnmi=%c, recorded by kvm-recorder", name.release,
		 access("/sys/module/kvm_amd", F_OK) == 0 ? "kvm_amd" : "without kvm_amd", vnmi);
}

static void usage(void)
{
	fprintf(stderr, "usage: kvm-recorder [--dry-run] [--marks TRACE_MARKER] kvm.jsonl > recorded.jsonl\n"
			"Plays the scenarios of a file on this machine's KVM. Not verified on hardware: see README.md.\n");
	exit(2);
}

int main(int argc, char **argv)
{
	char *line = malloc(LONGEST_LINE), source[512];
	int kvm = -1, dry = 0, i;
	FILE *file;

	for (i = 1; i < argc && argv[i][0] == '-'; i++) {
		if (!strcmp(argv[i], "--dry-run"))
			dry = 1;
		else if (!strcmp(argv[i], "--marks") && i + 1 < argc)
			marker = checked(open(argv[++i], O_WRONLY), "--marks");
		else
			usage();
	}
	if (i + 1 != argc || !line)
		usage();
	file = fopen(argv[i], "r");
	if (!file)
		die(argv[i], strerror(errno));
	if (!dry) {
		kvm = checked(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
		if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION ||
		    ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_USER_NMI) <= 0 ||
		    ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_IMMEDIATE_EXIT) <= 0)
			die("/dev/kvm", "lacks KVM_CAP_USER_NMI or KVM_CAP_IMMEDIATE_EXIT");
	}
	source[0] = 0;
	if (!dry)
		describe(source, sizeof(source));
	while (fgets(line, LONGEST_LINE, file))
		if (line[0] == '{')
			play(kvm, line, source);
	fclose(file);
	free(line);
	return 0;
}
