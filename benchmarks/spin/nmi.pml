/*
 * The machine that `vnmi-lab explore` searches, small enough for Spin: a guest that works a little and then waits,
 * its NMI handler, KVM's NMI paths, and up to NMIS external NMIs at any time. README.md says what is left out.
 *
 *   spin -a nmi.pml                 legacy: EVENTINJ, IRET intercept, RIP compare, single step (Linux up to v6.3)
 *   spin -DVNMI -a nmi.pml          virtual NMIs as merged (Linux v6.4 and fixes); from the specification
 *   ... -DM2                        a mutant, which must fail; of legacy M1, M2, of virtual NMIs M6, M7, M8
 *   ... -DNMIS=5                    another number of NMIs
 *
 * A transition is what a step of `Kvm` is: one boundary of the guest, the handling of one exit, one entry.
 */
#ifndef NMIS
#define NMIS 3
#endif

#if defined(VNMI) && (defined(M1) || defined(M2))
#error "M1 and M2 are mutants of legacy"
#endif
#if !defined(VNMI) && (defined(M6) || defined(M7) || defined(M8))
#error "M6, M7 and M8 are mutants of VNMI"
#endif

mtype:place = { user, kernel, guest, exited };     /* where the vCPU's thread is */
mtype:why = { none, intr_exit, iret_exit, db_exit, hlt_exit };

/* The guest: three NOPs with interrupts off, then HLT and a jump back to it; the NMI handler ends in IRET. */
#define HLT 3
#define JMP 4
#define ENTRY 5
#define IRET 7
#define DEEPEST 3

byte rip;
byte frame[DEEPEST];                               /* return addresses; a mutant's handlers nest */
byte frames;
bit tf, trap;                                      /* RFLAGS.TF, and the #DB it leaves behind an instruction */
bit kick;                                          /* the physical interrupt that makes a running guest exit */

/* The VMCB. One copy of V_NMI and V_NMI_MASK will do: only the vCPU's thread writes them, and not while it runs. */
bit event_inj, icpt_iret;
bit v_nmi_pending, v_nmi_blocking;
mtype:why exit_code = none;

/* KVM. nmi_injected is left out: nothing here interrupts a delivery, so it never outlives an exit. */
mtype:place phase = user;
byte nmi_queued, nmi_pending;
bit req_nmi, req_event;
bit nmi_masked, awaiting_iret_completion, nmi_singlestep, halted;
byte nmi_iret_rip;
byte limit;                                        /* of process_nmi; 0 outside */

/* The bystander of the laws. */
byte left = NMIS;                                  /* NMIs still to come */
byte waiting;                                      /* NMIs that may still be delivered */
bit owed;                                          /* one arrived after which the handler has not been entered */
bit in_service;                                    /* no IRET has completed since an NMI was delivered */

#ifdef VNMI
#define NMI_MASK v_nmi_blocking
#else
#define NMI_MASK nmi_masked
#endif
#ifdef M6
#define NMI_BLOCKED (NMI_MASK || v_nmi_pending)    /* v4: "allowed" means that the V_NMI slot is free */
#else
#define NMI_BLOCKED NMI_MASK
#endif
#ifdef M8
#define IS_VNMI_PENDING v_nmi_blocking             /* v6.4-rc: bit 12 where bit 11 was meant */
#else
#define IS_VNMI_PENDING v_nmi_pending
#endif
#define HAS_EVENTS (req_nmi || (nmi_pending && !NMI_BLOCKED))
#define IS_WAITING (phase == kernel && halted && !HAS_EVENTS)

/* ---- laws ------------------------------------------------------------------------------------------------------ */

inline delivered()
{
	assert(!in_service);                       /* not_before_iret */
	assert(waiting > 0);                       /* not_over_delivered */
	assert(!tf);                               /* no_borrowed_flags */
	waiting--;
	owed = 0;
	in_service = 1
}

inline at_rest()
{
	assert(!owed);                             /* not_lost */
	assert(!nmi_queued && !nmi_pending && !event_inj && !v_nmi_pending)     /* nothing_left */
}

inline looked_at()
{
	assert(!nmi_pending || req_event || req_nmi || NMI_BLOCKED)
}

/* ---- the processor --------------------------------------------------------------------------------------------- */

inline deliver_nmi()
{
	delivered();
	frame[frames] = rip;
	frames++;
	rip = ENTRY
}

inline vmexit(code)
{
	exit_code = code;
	phase = exited
}

inline execute()
{
	if
	:: rip == HLT -> vmexit(hlt_exit)
	:: rip == JMP -> rip = HLT; trap = tf
	:: rip == IRET && icpt_iret -> vmexit(iret_exit)       /* before anything commits: RIP stays */
	:: rip == IRET && !icpt_iret ->
		trap = tf;                                     /* as TF was when it began; the popped flags have none */
		tf = 0;
		frames--;
		rip = frame[frames];
		frame[frames] = 0;
		in_service = 0;
#ifdef VNMI
		v_nmi_blocking = 0
#endif
	:: else -> rip++; trap = tf
	fi
}

inline boundary()
{
	if
	:: event_inj -> event_inj = 0; deliver_nmi()
	:: else ->
		if
		:: trap -> trap = 0; vmexit(db_exit)
		:: else ->
			if
			:: v_nmi_pending && !v_nmi_blocking ->
				v_nmi_pending = 0;
				v_nmi_blocking = 1;
				deliver_nmi()
			:: else ->
				if
				:: kick -> vmexit(intr_exit)
				:: else -> execute()
				fi
			fi
		fi
	fi
}

/* ---- KVM ------------------------------------------------------------------------------------------------------- */

inline process_nmi()
{
	limit = (NMI_MASK -> 1 : 2);
#if defined(VNMI) && !defined(M7)
	limit = limit - IS_VNMI_PENDING;
#endif
	nmi_pending = (nmi_pending + nmi_queued < limit -> nmi_pending + nmi_queued : limit);
	nmi_queued = 0;
	limit = 0;
#ifdef VNMI
	if
	:: nmi_pending && !v_nmi_pending -> v_nmi_pending = 1; nmi_pending--
	:: else
	fi;
	req_event = req_event || nmi_pending
#else
	req_event = 1
#endif
}

inline inject_nmi()
{
	event_inj = 1;
#if defined(VNMI)
	v_nmi_blocking = 1                         /* VMRUN does: APM 15.21.10 */
#elif !defined(M1)
	nmi_masked = 1;
	icpt_iret = 1
#endif
}

inline enable_nmi_window()
{
#ifdef M1
	req_event = 1
#elif defined(M6)
	skip                                       /* V_NMI is pending, and that was thought to be enough */
#else
	if
	:: NMI_MASK && !awaiting_iret_completion   /* the IRET intercept will exit */
	:: else -> nmi_singlestep = 1; tf = 1
	fi
#endif
}

inline check_and_inject_events()
{
	if
	:: nmi_pending && !NMI_BLOCKED -> nmi_pending--; inject_nmi()
	:: else
	fi;
	if
	:: nmi_pending -> enable_nmi_window()
	:: else
	fi
}

inline enter_guest()
{
	halted = 0;
	if
	:: req_nmi -> req_nmi = 0; process_nmi()
	:: else
	fi;
	if
	:: req_event -> req_event = 0; check_and_inject_events()
	:: else
	fi;
	assert(!(nmi_singlestep && event_inj));    /* svm_vcpu_run would have to give TF back: not without a shadow */
	phase = guest
}

inline complete_interrupts()
{
	if
	:: awaiting_iret_completion && rip != nmi_iret_rip ->
		awaiting_iret_completion = 0;
		nmi_masked = 0;
		nmi_iret_rip = 0;                  /* dead: one state, not several */
		req_event = 1
	:: else
	fi
}

inline handle_exit()
{
	kick = 0;                                  /* the host takes it at STGI */
	complete_interrupts();
	if
	:: exit_code == iret_exit ->
#ifdef M2
		nmi_masked = 0;                    /* before the IRET has executed */
#else
		awaiting_iret_completion = 1;
		nmi_iret_rip = rip;
#endif
		icpt_iret = 0;
		req_event = 1
	:: exit_code == db_exit -> nmi_singlestep = 0; tf = 0; req_event = 1
	:: exit_code == hlt_exit -> rip = JMP; halted = 1
	:: else
	fi;
	exit_code = none;
	phase = kernel;
	looked_at()
}

/* ---- processes ------------------------------------------------------------------------------------------------- */

active proctype World()
{
end:	do
	:: d_step {
		left > 0 ->
		left--;
		nmi_queued++;                      /* kvm_inject_nmi, and the kick */
		req_nmi = 1;
		kick = kick || phase == guest;
		owed = 1;
		if
		:: waiting < (in_service -> 1 : 2) -> waiting++
		:: else
		fi
	   }
	od
}

active proctype Vcpu()
{
	do
	:: d_step { phase == user -> phase = kernel }
	:: d_step { phase == kernel && !IS_WAITING -> enter_guest() }
	:: d_step { phase == guest -> boundary() }
	:: d_step { phase == exited -> handle_exit() }
	:: d_step { IS_WAITING && left == 0 -> at_rest() }; break     /* anywhere else, to stop is an invalid end state */
	od
}
