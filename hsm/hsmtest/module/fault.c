// A PKCS#11 module for tests: it stands in front of a real one and misbehaves on command.
//
// CERTMILL_FAULT_MODULE is the path of the real module, CERTMILL_FAULT_DIR a folder with the file "state" that the test made. All
// processes that load this module map that file, and so does the test: faults begin and end while they run, and counts are over all of
// them. A file of zeros after its head is a token without faults.
//
// Functions that are not in overrides() go straight to the real module: digests, verification, encryption, multi-part signatures.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "pkcs11go.h" // of github.com/miekg/pkcs11, from the module cache

typedef _Atomic uint64_t word;

#define MAGIC 0x31746c7561666d63u // "cmfault1": change the digit with the layout
#define FOREVER UINT64_MAX
#define CLAIM UINT64_MAX

// The functions that have a name in the state. hsmtest.Function has the same order.
enum {
	INITIALIZE, FINALIZE, SLOT_LIST, SLOT_INFO, TOKEN_INFO, MECHANISM_LIST, MECHANISM_INFO, OPEN_SESSION, CLOSE_SESSION, LOGIN, LOGOUT,
	SET_PIN, FIND, GET_ATTRIBUTE, SIGN_INIT, SIGN, GENERATE, CREATE, RANDOM, FUNCTIONS
};

// The state is words of 64 bits and runs of bytes whose length is a multiple of 8, so that it has no padding and Go's mirror of it
// (type state in fault.go) is the same bytes. Each word is read and written atomically; rows of processes are claimed and freed under
// flock of the file, which a killed process lets go. Times are nanoseconds of CLOCK_REALTIME, durations nanoseconds.
//
// A fault strikes "left" times (FOREVER: always), in process "pid" only (0: in any; CLAIM: in the first process that meets it, whose pid
// takes the place of CLAIM). left is written last, and 0 switches it off.
struct fault { word value, left, pid; };

struct function {
	struct fault code;  // value: the CK_RV to return
	struct fault hang;  // value: for how long; FOREVER
	struct fault crash; // SIGSEGV
	word delay;         // the call takes at least this long; calls of different threads overlap
	word calls;
};

struct process {
	word pid;
	word sessions;
	word died;       // when that was noticed; the test looks every few milliseconds
	word lost;       // sessions_lost when sessions were opened: they are gone when it has changed
	word signatures;
};

struct attribute {
	word mode;  // 0: free; 1: value; 2: not offered (CKR_ATTRIBUTE_TYPE_INVALID)
	word type;
	word class; // of the object; FOREVER: any
	word length;
	uint8_t value[512];
	char label[64]; // of the object; empty: any
};

struct made { // a key pair or object made through this module
	word number; // 1, 2, 3...
	word pid;
	word length;
	uint8_t id[64]; // its CKA_ID
};

#define PROCESSES 256
#define ATTRIBUTES 16
#define MADE 64

struct state {
	word magic, size;

	word sessions_lost, logins_lost, reboots; // counters: one more, and what was open, logged in or initialized before is gone
	word down_until;                          // no token until then
	word dead_code;                           // what a lost session answers; 0: CKR_SESSION_HANDLE_INVALID
	word stay_broken;                         // a process that was initialized before a reboot has no token until C_Finalize
	word released;                            // counter: one more, and calls that hang return to work

	struct function functions[FUNCTIONS];

	struct fault corrupt; // value: one in so many signatures
	word corrupt_seed;

	word max_sessions; // over all processes; 0: the real module's
	word linger;       // how long sessions of a process that ended without closing them count

	struct attribute attributes[ATTRIBUTES];
	word flags_set, flags_cleared; // of the token
	char serial[16];               // empty: the real one
	word firmware;                 // 0x10000 | major << 8 | minor; 0: the real one
	word pad_pin_length;           // C_Login without a PIN takes pad_pin, as if typed at the token's pad
	char pad_pin[64];

	word hide_ec;       // no elliptic curves
	word refuse_false;  // the CK_RV for a template with an explicit CKA_DECRYPT = false and the like; 0: taken
	word hide_new_keys; // a process does not see keys that another made after its C_Initialize
	word unique_ids;    // a key pair needs a CKA_ID that no other has
	word refuse_fork;   // C_Initialize fails in a process that has forked since it loaded the module, and in its child
	word no_login;      // the token knows no C_Login: a session is logged in as it opens, with pad_pin

	word logins, wrong_pins; // of the user
	word sessions_opened, sessions_peak;
	word signatures, corrupted;
	word made_count;
	struct made made[MADE];
	struct process processes[PROCESSES];
};

static struct state *state;
static int state_file;
static CK_FUNCTION_LIST *real;
static CK_FUNCTION_LIST ours;

// What this process knows. calls is held for reading around calls of the real module and for writing while sessions are taken away
// from under it; lock guards the rest and is held for moments only.
static pthread_rwlock_t calls = PTHREAD_RWLOCK_INITIALIZER;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

enum { FREE, LIVE, LOST, CLOSED }; // LOST: the real session is still open, so that the login lives; CLOSED: it is not
static struct { CK_SESSION_HANDLE handle; CK_SLOT_ID slot; int is; } sessions[1024];
static unsigned used, evict; // of sessions: those in use are below used; evict goes round
static word sessions_seen, logins_seen, reboots_seen, made_seen;
static int logged_in, login_lost;
static struct process *me;
static int forked;

static uint64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void sleep_ns(uint64_t ns) {
	struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
	while (nanosleep(&t, &t) != 0 && errno == EINTR) {
	}
}

static CK_RV dead_code(void) { return state->dead_code ? state->dead_code : CKR_SESSION_HANDLE_INVALID; }

// strikes reports whether a fault is due in this call.
static int strikes(struct fault *f) {
	uint64_t left = f->left, pid = f->pid, claim = CLAIM;
	if (left == 0) return 0;
	if (pid == CLAIM) {
		atomic_compare_exchange_strong(&f->pid, &claim, (uint64_t)getpid());
		pid = f->pid;
	}
	if (pid != 0 && pid != (uint64_t)getpid()) return 0;
	while (left != 0 && left != FOREVER)
		if (atomic_compare_exchange_weak(&f->left, &left, left - 1)) return 1;
	return left == FOREVER;
}

// hang waits, holding nothing, until its time is over or the test lets go.
static void hang(uint64_t ns) {
	uint64_t released = state->released, since = now();
	while (state->released == released) {
		uint64_t past = now() - since;
		if (ns != FOREVER && past >= ns) return;
		sleep_ns(ns != FOREVER && ns - past < 2000000 ? ns - past : 2000000);
	}
}

// before does what any function may be told to do.
static CK_RV before(int function) {
	struct function *f = &state->functions[function];
	f->calls++;
	if (strikes(&f->crash)) {
		volatile char *volatile nowhere = NULL;
		*nowhere = 0;
	}
	if (strikes(&f->hang)) hang(f->hang.value);
	if (function != SIGN && f->delay) sleep_ns(f->delay);
	return strikes(&f->code) ? f->code.value : CKR_OK;
}

// ---- processes and their sessions

static void lock_table(void) {
	pthread_mutex_lock(&lock);
	while (flock(state_file, LOCK_EX) != 0 && errno == EINTR) {
	}
}

static void unlock_table(void) {
	flock(state_file, LOCK_UN);
	pthread_mutex_unlock(&lock);
}

// ended reports whether a process has: also one that nobody has waited for.
static int ended(uint64_t pid) {
	char path[64], text[512], *end;
	if (kill((pid_t)pid, 0) != 0) return errno == ESRCH;
	snprintf(path, sizeof path, "/proc/%lu/stat", (unsigned long)pid);
	int file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0) return errno == ENOENT;
	ssize_t n = read(file, text, sizeof text - 1);
	close(file);
	if (n <= 0) return 1;
	text[n] = 0;
	end = strrchr(text, ')');
	return end && (end[2] == 'Z' || end[2] == 'X');
}

// count_sessions frees what lost sessions are due and counts the others. The table is locked.
static uint64_t count_sessions(void) {
	uint64_t sum = 0;
	for (struct process *p = state->processes; p < state->processes + PROCESSES; p++) {
		if (p->pid == 0) continue;
		if (p->lost != state->sessions_lost) p->sessions = 0;
		if (p == me || !ended(p->pid)) {
			p->died = 0;
		} else {
			uint64_t zero = 0;
			atomic_compare_exchange_strong(&p->died, &zero, now());
			if (state->max_sessions == 0 || p->sessions == 0 || now() >= p->died + state->linger) {
				p->sessions = 0;
				p->pid = 0;
				continue;
			}
		}
		sum += p->sessions;
	}
	return sum;
}

// enrol finds a row for this process. The table is locked.
static CK_RV enrol(void) {
	count_sessions();
	for (struct process *p = state->processes; p < state->processes + PROCESSES && !me; p++)
		if (p->pid == 0) me = p;
	if (!me) return CKR_HOST_MEMORY;
	me->sessions = me->died = me->signatures = 0;
	me->lost = state->sessions_lost;
	me->pid = (uint64_t)getpid();
	return CKR_OK;
}

static CK_RV take_session(void) {
	CK_RV rv = CKR_OK;
	lock_table();
	uint64_t sum = count_sessions();
	if (state->max_sessions && sum >= state->max_sessions) {
		rv = CKR_SESSION_COUNT;
	} else if (me) {
		if (me->lost != state->sessions_lost) me->sessions = 0;
		me->lost = state->sessions_lost;
		me->sessions++;
		if (sum + 1 > state->sessions_peak) state->sessions_peak = sum + 1;
	}
	unlock_table();
	return rv;
}

static void give_back(uint64_t n) {
	lock_table();
	if (me && me->lost == state->sessions_lost) me->sessions -= n < me->sessions ? n : me->sessions;
	unlock_table();
}

static int find_session(CK_SESSION_HANDLE h) {
	for (unsigned i = 0; i < used; i++)
		if (sessions[i].is != FREE && sessions[i].handle == h) return (int)i;
	return -1;
}

static void add_session(CK_SESSION_HANDLE h, CK_SLOT_ID slot) {
	pthread_mutex_lock(&lock);
	int i = find_session(h); // a lost one whose number the real module uses again
	for (unsigned n = 0; i < 0 && n < used; n++)
		if (sessions[n].is == FREE) i = (int)n;
	if (i < 0 && used < sizeof sessions / sizeof *sessions) i = (int)used++;
	for (unsigned n = 0; i < 0 && n < used; n++, evict = (evict + 1) % used) // rebooted hundreds of times: forget one that is closed
		if (sessions[evict].is == CLOSED) i = (int)evict;
	if (i >= 0) { // past a thousand at once, the real module's word is enough
		sessions[i].handle = h;
		sessions[i].slot = slot;
		sessions[i].is = LIVE;
	}
	pthread_mutex_unlock(&lock);
}

// lose takes sessions and login away. Nobody is in the real module.
static void lose(void) {
	int live = -1;
	if (sessions_seen != state->sessions_lost) {
		sessions_seen = state->sessions_lost;
		for (unsigned i = 0; i < used; i++)
			if (sessions[i].is == LIVE) sessions[i].is = LOST;
	}
	if (logins_seen == state->logins_lost) return;
	logins_seen = state->logins_lost;
	login_lost |= logged_in;
	logged_in = 0;
	for (unsigned i = 0; i < used; i++)
		if (sessions[i].is == LIVE) live = (int)i;
	if (live >= 0) {
		real->C_Logout(sessions[live].handle);
		return;
	}
	for (unsigned i = 0; i < used; i++)
		if (sessions[i].is == LOST) {
			real->C_CloseSession(sessions[i].handle); // the last one ends the login
			sessions[i].is = CLOSED;
		}
}

static void settle(void) {
	if (sessions_seen == state->sessions_lost && logins_seen == state->logins_lost) return;
	pthread_rwlock_wrlock(&calls);
	pthread_mutex_lock(&lock);
	lose();
	pthread_mutex_unlock(&lock);
	pthread_rwlock_unlock(&calls);
}

static int away(void) {
	uint64_t until = state->down_until;
	return (until && now() < until) || (state->stay_broken && reboots_seen != state->reboots);
}

// enter begins a call of the real module, with a session or without (0). After CKR_OK leave must follow.
static CK_RV enter(CK_SESSION_HANDLE h) {
	CK_RV rv = CKR_OK;
	settle();
	pthread_rwlock_rdlock(&calls);
	pthread_mutex_lock(&lock);
	int i = h ? find_session(h) : -1;
	if (i >= 0 && sessions[i].is != LIVE)
		rv = dead_code();
	else if (away())
		rv = CKR_DEVICE_REMOVED;
	pthread_mutex_unlock(&lock);
	if (rv != CKR_OK) pthread_rwlock_unlock(&calls);
	return rv;
}

static void leave(void) { pthread_rwlock_unlock(&calls); }

// CALL is a function that does nothing but what any may be told to do.
#define CALL(function, session, call)                  \
	do {                                               \
		CK_RV rv = before(function);                   \
		if (rv == CKR_OK && (rv = enter(session)) == CKR_OK) { \
			rv = real->call;                           \
			leave();                                   \
		}                                              \
		return rv;                                     \
	} while (0)

// IN is one that has no name in the state.
#define IN(session, call)                              \
	do {                                               \
		CK_RV rv = enter(session);                     \
		if (rv == CKR_OK) {                            \
			rv = real->call;                           \
			leave();                                   \
		}                                              \
		return rv;                                     \
	} while (0)

// ---- the module

static void in_parent(void) { forked = 1; }

static void in_child(void) {
	forked = 1;
	me = NULL; // that is the parent's
}

static CK_RV Initialize(CK_VOID_PTR args) {
	CK_RV rv = before(INITIALIZE);
	if (rv != CKR_OK) return rv;
	if (state->refuse_fork && forked) return CKR_GENERAL_ERROR;
	if ((rv = real->C_Initialize(args)) != CKR_OK) return rv;
	lock_table();
	sessions_seen = state->sessions_lost;
	logins_seen = state->logins_lost;
	reboots_seen = state->reboots;
	made_seen = state->made_count;
	used = evict = 0;
	logged_in = login_lost = 0;
	rv = enrol();
	unlock_table();
	return rv;
}

static CK_RV Finalize(CK_VOID_PTR reserved) {
	CK_RV rv = before(FINALIZE);
	if (rv != CKR_OK) return rv;
	pthread_rwlock_wrlock(&calls);
	rv = real->C_Finalize(reserved);
	lock_table();
	if (me) me->sessions = me->pid = 0;
	me = NULL;
	used = evict = 0;
	unlock_table();
	pthread_rwlock_unlock(&calls);
	return rv;
}

static CK_RV GetSlotList(CK_BBOOL present, CK_SLOT_ID_PTR list, CK_ULONG_PTR n) {
	CK_RV rv = before(SLOT_LIST);
	if (rv != CKR_OK) return rv;
	if (present && n && away()) {
		*n = 0;
		return CKR_OK;
	}
	return real->C_GetSlotList(present, list, n);
}

static CK_RV GetSlotInfo(CK_SLOT_ID slot, CK_SLOT_INFO_PTR info) {
	CK_RV rv = before(SLOT_INFO);
	if (rv == CKR_OK) rv = real->C_GetSlotInfo(slot, info);
	if (rv == CKR_OK && away()) info->flags &= ~(CK_FLAGS)CKF_TOKEN_PRESENT;
	return rv;
}

static CK_RV GetTokenInfo(CK_SLOT_ID slot, CK_TOKEN_INFO_PTR info) {
	CK_RV rv = before(TOKEN_INFO);
	if (rv != CKR_OK || (rv = enter(0)) != CKR_OK) return rv;
	rv = real->C_GetTokenInfo(slot, info);
	leave();
	if (rv != CKR_OK) return rv;
	info->flags = (info->flags | state->flags_set) & ~(CK_FLAGS)state->flags_cleared;
	if (state->serial[0]) {
		memset(info->serialNumber, ' ', sizeof info->serialNumber);
		memcpy(info->serialNumber, state->serial, strnlen(state->serial, sizeof state->serial));
	}
	if (state->firmware) {
		info->firmwareVersion.major = (CK_BYTE)(state->firmware >> 8);
		info->firmwareVersion.minor = (CK_BYTE)state->firmware;
	}
	if (state->max_sessions) {
		info->ulMaxSessionCount = info->ulMaxRwSessionCount = state->max_sessions;
		lock_table();
		info->ulSessionCount = info->ulRwSessionCount = count_sessions();
		unlock_table();
	}
	return CKR_OK;
}

static int hidden(CK_MECHANISM_TYPE m) { return state->hide_ec && m >= CKM_EC_KEY_PAIR_GEN && m <= CKM_EC_KEY_PAIR_GEN + 0x1f; }

static CK_RV GetMechanismList(CK_SLOT_ID slot, CK_MECHANISM_TYPE_PTR list, CK_ULONG_PTR n) {
	CK_MECHANISM_TYPE all[1024];
	CK_ULONG count = sizeof all / sizeof *all, kept = 0;
	CK_RV rv = before(MECHANISM_LIST);
	if (rv != CKR_OK || (rv = enter(0)) != CKR_OK) return rv;
	rv = real->C_GetMechanismList(slot, all, &count);
	leave();
	if (rv != CKR_OK) return rv;
	for (CK_ULONG i = 0; i < count; i++)
		if (!hidden(all[i])) all[kept++] = all[i];
	rv = list && *n < kept ? CKR_BUFFER_TOO_SMALL : CKR_OK;
	if (list && rv == CKR_OK) memcpy(list, all, kept * sizeof *all);
	*n = kept;
	return rv;
}

static CK_RV GetMechanismInfo(CK_SLOT_ID slot, CK_MECHANISM_TYPE m, CK_MECHANISM_INFO_PTR info) {
	if (hidden(m)) return CKR_MECHANISM_INVALID;
	CALL(MECHANISM_INFO, 0, C_GetMechanismInfo(slot, m, info));
}

static CK_RV OpenSession(CK_SLOT_ID slot, CK_FLAGS flags, CK_VOID_PTR app, CK_NOTIFY notify, CK_SESSION_HANDLE_PTR h) {
	CK_RV rv = before(OPEN_SESSION);
	if (rv != CKR_OK || (rv = enter(0)) != CKR_OK) return rv;
	if ((rv = take_session()) == CKR_OK) {
		if ((rv = real->C_OpenSession(slot, flags, app, notify, h)) == CKR_OK) {
			add_session(*h, slot);
			state->sessions_opened++;
			if (state->no_login) {
				real->C_Login(*h, CKU_USER, (CK_UTF8CHAR_PTR)state->pad_pin, state->pad_pin_length); // again and again
				pthread_mutex_lock(&lock);
				logged_in = 1;
				login_lost = 0;
				pthread_mutex_unlock(&lock);
			}
		} else {
			give_back(1);
		}
	}
	leave();
	return rv;
}

static CK_RV CloseSession(CK_SESSION_HANDLE h) {
	CK_RV rv = before(CLOSE_SESSION);
	if (rv != CKR_OK || (rv = enter(h)) != CKR_OK) return rv;
	if ((rv = real->C_CloseSession(h)) == CKR_OK) {
		pthread_mutex_lock(&lock);
		int i = find_session(h);
		if (i >= 0) sessions[i].is = FREE;
		pthread_mutex_unlock(&lock);
		give_back(1);
	}
	leave();
	return rv;
}

static CK_RV CloseAllSessions(CK_SLOT_ID slot) {
	uint64_t n = 0;
	CK_RV rv = enter(0);
	if (rv != CKR_OK) return rv;
	if ((rv = real->C_CloseAllSessions(slot)) == CKR_OK) {
		pthread_mutex_lock(&lock);
		for (unsigned i = 0; i < used; i++) {
			if (sessions[i].slot != slot) continue;
			if (sessions[i].is == LIVE) sessions[i].is = FREE, n++;
			if (sessions[i].is == LOST) sessions[i].is = CLOSED;
		}
		logged_in = login_lost = 0;
		pthread_mutex_unlock(&lock);
		give_back(n);
	}
	leave();
	return rv;
}

static CK_RV GetSessionInfo(CK_SESSION_HANDLE h, CK_SESSION_INFO_PTR info) { IN(h, C_GetSessionInfo(h, info)); }

static CK_RV Login(CK_SESSION_HANDLE h, CK_USER_TYPE who, CK_UTF8CHAR_PTR pin, CK_ULONG n) {
	CK_RV rv = before(LOGIN);
	int tried = rv != CKR_OK;
	if (state->no_login) return CKR_FUNCTION_NOT_SUPPORTED;
	if (rv == CKR_OK && (rv = enter(h)) == CKR_OK) {
		tried = 1;
		if (n == 0 && state->pad_pin_length) {
			pin = (CK_UTF8CHAR_PTR)state->pad_pin;
			n = state->pad_pin_length;
		}
		rv = real->C_Login(h, who, pin, n);
		if (rv == CKR_OK || rv == CKR_USER_ALREADY_LOGGED_IN) {
			pthread_mutex_lock(&lock);
			logged_in = 1;
			login_lost = 0;
			pthread_mutex_unlock(&lock);
		}
		leave();
	}
	if (tried && who == CKU_USER) {
		state->logins++;
		if (rv == CKR_PIN_INCORRECT || rv == CKR_PIN_LOCKED) state->wrong_pins++;
	}
	return rv;
}

static CK_RV Logout(CK_SESSION_HANDLE h) {
	CK_RV rv = before(LOGOUT);
	if (rv != CKR_OK || (rv = enter(h)) != CKR_OK) return rv;
	rv = real->C_Logout(h);
	pthread_mutex_lock(&lock);
	logged_in = login_lost = 0;
	pthread_mutex_unlock(&lock);
	leave();
	return rv;
}

static CK_RV SetPIN(CK_SESSION_HANDLE h, CK_UTF8CHAR_PTR was, CK_ULONG n, CK_UTF8CHAR_PTR is, CK_ULONG m) {
	CALL(SET_PIN, h, C_SetPIN(h, was, n, is, m));
}

// ---- objects

static CK_RV FindObjectsInit(CK_SESSION_HANDLE h, CK_ATTRIBUTE_PTR t, CK_ULONG n) { CALL(FIND, h, C_FindObjectsInit(h, t, n)); }
static CK_RV FindObjectsFinal(CK_SESSION_HANDLE h) { IN(h, C_FindObjectsFinal(h)); }
static CK_RV DestroyObject(CK_SESSION_HANDLE h, CK_OBJECT_HANDLE o) { IN(h, C_DestroyObject(h, o)); }

// is_new reports whether another process made an object after this one was initialized.
static int is_new(CK_SESSION_HANDLE h, CK_OBJECT_HANDLE o) {
	uint8_t id[64];
	CK_ATTRIBUTE a = {CKA_ID, id, sizeof id};
	if (real->C_GetAttributeValue(h, o, &a, 1) != CKR_OK) return 0;
	for (struct made *m = state->made; m < state->made + MADE; m++)
		if (m->number > made_seen && m->pid != (uint64_t)getpid() && m->length == a.ulValueLen && memcmp(m->id, id, m->length) == 0) return 1;
	return 0;
}

static CK_RV FindObjects(CK_SESSION_HANDLE h, CK_OBJECT_HANDLE_PTR list, CK_ULONG max, CK_ULONG_PTR n) {
	CK_ULONG kept = 0;
	CK_RV rv = enter(h);
	if (rv != CKR_OK) return rv;
	do { // none means the end: go on where all were hidden
		rv = real->C_FindObjects(h, list, max, n);
		if (rv != CKR_OK || !state->hide_new_keys) break;
		for (CK_ULONG i = 0; i < *n; i++)
			if (!is_new(h, list[i])) list[kept++] = list[i];
		if (*n == 0) break;
		*n = kept;
	} while (kept == 0);
	leave();
	return rv;
}

// lie is the row that says what an attribute of an object shall be, or NULL.
static struct attribute *lie(CK_ATTRIBUTE_TYPE type, CK_ULONG class, const char *label) {
	for (struct attribute *a = state->attributes; a < state->attributes + ATTRIBUTES; a++)
		if (a->mode && a->type == type && (a->class == FOREVER || a->class == class) &&
		    (!a->label[0] || strncmp(a->label, label, sizeof a->label) == 0))
			return a;
	return NULL;
}

static CK_RV tell(struct attribute *l, CK_ATTRIBUTE_PTR a) {
	CK_ULONG room = a->ulValueLen;
	if (l->mode == 2) {
		a->ulValueLen = CK_UNAVAILABLE_INFORMATION;
		return CKR_ATTRIBUTE_TYPE_INVALID;
	}
	a->ulValueLen = l->length;
	if (!a->pValue) return CKR_OK;
	if (room < l->length) {
		a->ulValueLen = CK_UNAVAILABLE_INFORMATION;
		return CKR_BUFFER_TOO_SMALL;
	}
	memcpy(a->pValue, l->value, l->length);
	return CKR_OK;
}

static CK_RV GetAttributeValue(CK_SESSION_HANDLE h, CK_OBJECT_HANDLE o, CK_ATTRIBUTE_PTR t, CK_ULONG n) {
	char label[65] = "";
	CK_ULONG class = 0, truths = 0;
	CK_ATTRIBUTE is_label = {CKA_LABEL, label, sizeof label - 1}, is_class = {CKA_CLASS, &class, sizeof class}, *true_ones = NULL;
	CK_RV rv = before(GET_ATTRIBUTE);
	if (rv != CKR_OK || (rv = enter(h)) != CKR_OK) return rv;
	if (real->C_GetAttributeValue(h, o, &is_label, 1) == CKR_OK) label[is_label.ulValueLen] = 0;
	if (real->C_GetAttributeValue(h, o, &is_class, 1) != CKR_OK) class = CK_UNAVAILABLE_INFORMATION;
	if (!(true_ones = calloc(n ? n : 1, sizeof *t))) {
		leave();
		return CKR_HOST_MEMORY;
	}
	for (CK_ULONG i = 0; i < n; i++)
		if (!lie(t[i].type, class, label)) true_ones[truths++] = t[i];
	if (truths || !n) rv = real->C_GetAttributeValue(h, o, true_ones, truths);
	leave();
	for (CK_ULONG i = 0, k = 0; i < n; i++) {
		struct attribute *l = lie(t[i].type, class, label);
		CK_RV told = CKR_OK;
		if (l) told = tell(l, &t[i]);
		else if (k < truths) t[i].ulValueLen = true_ones[k++].ulValueLen;
		if (told != CKR_OK) rv = told;
	}
	free(true_ones);
	return rv;
}

static CK_ATTRIBUTE *in_template(CK_ATTRIBUTE_TYPE type, CK_ATTRIBUTE_PTR t, CK_ULONG n) {
	for (CK_ULONG i = 0; i < n; i++)
		if (t[i].type == type) return &t[i];
	return NULL;
}

// refused reports whether a template says no to a use that the token does not want to hear of.
static int refused(CK_ATTRIBUTE_PTR t, CK_ULONG n) {
	static const CK_ATTRIBUTE_TYPE uses[] = {CKA_ENCRYPT, CKA_DECRYPT, CKA_WRAP, CKA_UNWRAP, CKA_DERIVE, CKA_COPYABLE};
	for (unsigned i = 0; state->refuse_false && i < sizeof uses / sizeof *uses; i++) {
		CK_ATTRIBUTE *a = in_template(uses[i], t, n);
		if (a && a->pValue && a->ulValueLen == 1 && *(CK_BBOOL *)a->pValue == CK_FALSE) return 1;
	}
	return 0;
}

// taken reports whether a private key has that CKA_ID.
static int taken(CK_SESSION_HANDLE h, CK_ATTRIBUTE id) {
	CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
	CK_ATTRIBUTE t[] = {{CKA_CLASS, &class, sizeof class}, id};
	CK_OBJECT_HANDLE found;
	CK_ULONG n = 0;
	if (real->C_FindObjectsInit(h, t, 2) != CKR_OK) return 0;
	real->C_FindObjects(h, &found, 1, &n);
	real->C_FindObjectsFinal(h);
	return n > 0;
}

static void remember(CK_ATTRIBUTE *id) {
	if (!id || id->ulValueLen > sizeof state->made->id) return;
	lock_table();
	uint64_t number = state->made_count + 1;
	struct made *m = &state->made[number % MADE];
	m->number = 0;
	memcpy(m->id, id->pValue, id->ulValueLen);
	m->length = id->ulValueLen;
	m->pid = (uint64_t)getpid();
	m->number = state->made_count = number;
	unlock_table();
}

static CK_RV CreateObject(CK_SESSION_HANDLE h, CK_ATTRIBUTE_PTR t, CK_ULONG n, CK_OBJECT_HANDLE_PTR o) {
	CK_RV rv = before(CREATE);
	if (rv != CKR_OK || (rv = enter(h)) != CKR_OK) return rv;
	rv = refused(t, n) ? state->refuse_false : real->C_CreateObject(h, t, n, o);
	if (rv == CKR_OK) remember(in_template(CKA_ID, t, n));
	leave();
	return rv;
}

// say_false makes a key what it is where those words are refused: for signing only.
static CK_RV say_false(CK_SESSION_HANDLE h, CK_OBJECT_HANDLE key) {
	CK_BBOOL no = CK_FALSE;
	CK_ATTRIBUTE t[] = {{CKA_DECRYPT, &no, sizeof no}, {CKA_UNWRAP, &no, sizeof no}, {CKA_DERIVE, &no, sizeof no}};
	return real->C_SetAttributeValue(h, key, t, sizeof t / sizeof *t);
}

static CK_RV generate(CK_SESSION_HANDLE h, CK_MECHANISM_PTR m, CK_ATTRIBUTE_PTR p, CK_ULONG pn, CK_ATTRIBUTE_PTR s, CK_ULONG sn,
                      CK_OBJECT_HANDLE_PTR po, CK_OBJECT_HANDLE_PTR so) {
	CK_ATTRIBUTE *id = in_template(CKA_ID, s, sn);
	if (hidden(m->mechanism)) return CKR_MECHANISM_INVALID;
	if (login_lost) return CKR_USER_NOT_LOGGED_IN;
	if (refused(p, pn) || refused(s, sn)) return state->refuse_false;
	if (state->unique_ids && !id) return CKR_TEMPLATE_INCOMPLETE;
	if (state->unique_ids && taken(h, *id)) return CKR_ATTRIBUTE_VALUE_INVALID;
	CK_RV rv = real->C_GenerateKeyPair(h, m, p, pn, s, sn, po, so);
	if (rv != CKR_OK) return rv;
	remember(id);
	return state->refuse_false ? say_false(h, *so) : CKR_OK;
}

static CK_RV GenerateKeyPair(CK_SESSION_HANDLE h, CK_MECHANISM_PTR m, CK_ATTRIBUTE_PTR p, CK_ULONG pn, CK_ATTRIBUTE_PTR s, CK_ULONG sn,
                             CK_OBJECT_HANDLE_PTR po, CK_OBJECT_HANDLE_PTR so) {
	CK_RV rv = before(GENERATE);
	if (rv != CKR_OK || (rv = enter(h)) != CKR_OK) return rv;
	rv = generate(h, m, p, pn, s, sn, po, so);
	leave();
	return rv;
}

static CK_RV GenerateRandom(CK_SESSION_HANDLE h, CK_BYTE_PTR p, CK_ULONG n) { CALL(RANDOM, h, C_GenerateRandom(h, p, n)); }

// ---- signatures

static CK_RV SignInit(CK_SESSION_HANDLE h, CK_MECHANISM_PTR m, CK_OBJECT_HANDLE key) {
	CK_RV rv = before(SIGN_INIT);
	if (rv != CKR_OK || (rv = enter(h)) != CKR_OK) return rv;
	if (hidden(m->mechanism))
		rv = CKR_MECHANISM_INVALID;
	else if (login_lost)
		rv = CKR_USER_NOT_LOGGED_IN;
	else
		rv = real->C_SignInit(h, m, key);
	leave();
	return rv;
}

// real_sign signs and, where the token fails in spite of it, throws the signature away: an error ends the operation.
static CK_RV real_sign(CK_SESSION_HANDLE h, CK_BYTE_PTR data, CK_ULONG n, CK_BYTE_PTR sig, CK_ULONG_PTR sn, CK_RV fault) {
	CK_BYTE nobodys[1024];
	CK_ULONG length = sizeof nobodys;
	CK_RV rv = enter(h);
	if (rv != CKR_OK) return rv;
	if (fault == CKR_OK && login_lost) fault = CKR_USER_NOT_LOGGED_IN;
	if (fault == CKR_OK) {
		rv = real->C_Sign(h, data, n, sig, sn);
	} else {
		real->C_Sign(h, data, n, nobodys, &length);
		rv = fault;
	}
	leave();
	return rv;
}

static uint64_t mix(uint64_t x) { // splitmix64
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

// corrupt turns one bit of the n-th signature, where that one is to be wrong.
static void corrupt(uint64_t n, CK_BYTE_PTR sig, CK_ULONG length) {
	uint64_t r = mix(state->corrupt_seed ^ mix(n)), one_in = state->corrupt.value;
	if (!state->corrupt.left || !length || (one_in > 1 && r % one_in != 0) || !strikes(&state->corrupt)) return;
	r = mix(r);
	sig[(r >> 3) % length] ^= (CK_BYTE)(1u << (r & 7));
	state->corrupted++;
}

static CK_RV Sign(CK_SESSION_HANDLE h, CK_BYTE_PTR data, CK_ULONG n, CK_BYTE_PTR sig, CK_ULONG_PTR sn) {
	if (!sig) IN(h, C_Sign(h, data, n, sig, sn)); // how long will it be
	uint64_t since = now(), lost = state->sessions_lost, delay = state->functions[SIGN].delay;
	CK_RV rv = real_sign(h, data, n, sig, sn, before(SIGN));
	if (rv != CKR_OK) return rv;
	uint64_t took = now() - since;
	if (took < delay) sleep_ns(delay - took); // nothing is held: others sign meanwhile
	if (lost != state->sessions_lost) return dead_code();
	corrupt(state->signatures++, sig, *sn);
	if (me) me->signatures++;
	return CKR_OK;
}

// ---- loading

static CK_RV get_function_list(CK_FUNCTION_LIST_PTR_PTR list);

static void overrides(void) {
	ours = *real;
	ours.C_GetFunctionList = get_function_list;
	ours.C_Initialize = Initialize;
	ours.C_Finalize = Finalize;
	ours.C_GetSlotList = GetSlotList;
	ours.C_GetSlotInfo = GetSlotInfo;
	ours.C_GetTokenInfo = GetTokenInfo;
	ours.C_GetMechanismList = GetMechanismList;
	ours.C_GetMechanismInfo = GetMechanismInfo;
	ours.C_OpenSession = OpenSession;
	ours.C_CloseSession = CloseSession;
	ours.C_CloseAllSessions = CloseAllSessions;
	ours.C_GetSessionInfo = GetSessionInfo;
	ours.C_Login = Login;
	ours.C_Logout = Logout;
	ours.C_SetPIN = SetPIN;
	ours.C_FindObjectsInit = FindObjectsInit;
	ours.C_FindObjects = FindObjects;
	ours.C_FindObjectsFinal = FindObjectsFinal;
	ours.C_GetAttributeValue = GetAttributeValue;
	ours.C_CreateObject = CreateObject;
	ours.C_DestroyObject = DestroyObject;
	ours.C_GenerateKeyPair = GenerateKeyPair;
	ours.C_GenerateRandom = GenerateRandom;
	ours.C_SignInit = SignInit;
	ours.C_Sign = Sign;
}

static const char *map_state(void) {
	char path[4096];
	struct stat is;
	const char *dir = getenv("CERTMILL_FAULT_DIR");
	if (!dir || snprintf(path, sizeof path, "%s/state", dir) >= (int)sizeof path) return "CERTMILL_FAULT_DIR is not set";
	state_file = open(path, O_RDWR | O_CLOEXEC);
	if (state_file < 0 || fstat(state_file, &is) != 0) return "the state file cannot be opened";
	if (is.st_size != (off_t)sizeof *state) return "the state file has another size: fault.c and fault.go differ";
	void *at = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, state_file, 0);
	if (at == MAP_FAILED) return "the state file cannot be mapped";
	state = at;
	return state->magic == MAGIC && state->size == sizeof *state ? NULL : "the state file is of another version";
}

static const char *load_real(void) {
	const char *path = getenv("CERTMILL_FAULT_MODULE");
	void *module = dlopen(path ? path : "/usr/lib/softhsm/libsofthsm2.so", RTLD_NOW | RTLD_LOCAL);
	if (!module) return dlerror();
	CK_C_GetFunctionList get = NULL;
	*(void **)&get = dlsym(module, "C_GetFunctionList");
	return get && get(&real) == CKR_OK ? NULL : "the real module gives no function list";
}

static void load(void) {
	const char *why = map_state();
	if (!why) why = load_real();
	if (why) {
		real = NULL;
		fprintf(stderr, "fault module: %s\n", why);
		return;
	}
	overrides();
	pthread_atfork(NULL, in_parent, in_child);
}

static CK_RV get_function_list(CK_FUNCTION_LIST_PTR_PTR list) {
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	if (!list) return CKR_ARGUMENTS_BAD;
	pthread_once(&once, load);
	*list = &ours;
	return real ? CKR_OK : CKR_GENERAL_ERROR;
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list) { return get_function_list(list); }
