/*
 * One payment, two workers, two gateways: the rules that keep AegisPay from charging twice, checked exhaustively.
 *
 * README.md names the code behind each part; check.py runs this model, and once more without each of its rules.
 * A rule is taken out by a macro (-DNO_FENCE, ...); every other line stays as it is.
 *
 * Operation 0 is the attempt at gateway 0, operation 1 the attempt at gateway 1 that may follow. Time is relative: every
 * timer counts ticks and stops where more makes no difference, so that the state space is finite.
 */

#define QUIET 2  /* ticks after a send until a look-up that finds nothing is believed; a request lands sooner */
#define LEASE 2  /* ticks that a lease lasts */

/* what our books say of an operation */
#define NONE     0
#define STARTED  1
#define DOUBT    2
#define APPROVED 3
#define DECLINED 4
#define NOT_SENT 5
/* DOUBT, APPROVED, DECLINED, NOT_SENT are outcomes of a call as well; 0 is none yet */

/* what our books say of the payment */
#define UNKNOWN   0
#define OPEN      1
#define SUCCEEDED 2
#define FAILED    3

/* which evidence a gateway gives: a stable key, an authoritative look-up, or both */
#define HAS_KEY  1
#define HAS_LOOK 2

/* where a worker stands */
#define IDLE   0
#define CREATE 1
#define SEND   2
#define WAIT   3
#define RECORD 4
#define RENEW  5
#define SEEK   6
#define LOOK   7
#define GIVE   8

/* --- the database: every commit is one atomic step ------------------------------------------------------- */
byte payment = UNKNOWN;
bool review;
byte status[2];
byte row;          /* the in-flight row: 0 none, else operation + 1 */
byte owner;        /* 0 handed over, else worker + 1 */
byte lease;        /* ticks until it is due */
byte overdue;      /* ticks since it was due */
byte row_sent;     /* ticks since the last send, as recorded */
bool fenced[2];    /* whether the fence that the worker holds is the row's: a takeover raises it */

/* --- the workers ------------------------------------------------------------------------------------------ */
byte at[2];
bool asked[2];     /* the client's request, or its repetition, reached this worker */
byte sent[2];      /* ticks since the end of the worker's last call, in its memory */
byte reply[2];

/* --- the gateways and the way to them --------------------------------------------------------------------- */
byte gives[2];     /* HAS_KEY, HAS_LOOK or both */
byte live[2];      /* charges that stand in the gateway's books */
bool refused[2];   /* a refusal stands in the gateway's books */
byte kept[4];      /* result kept under operation * 2 + key */
bool aged[2];      /* the operation is older than the declared life of its key, and than the review time */
byte rides[4];     /* requests under way, two an operation: 0 none, else ticks left + 1 */
bool fresh_key[4]; /* the request carries another key than the operation's */
byte waits_for[4]; /* worker + 1 that waits for the reply */

bool calm;         /* faults have stopped, for ever */

/* Names of what is promised, as the checker prints them; true in every state that is kept. */
bool one_live_charge = true;
bool nothing_sent_while_another_gateway_is_in_doubt = true;
bool no_effect_without_a_record = true;
bool no_effect_after_a_recorded_no = true;
bool a_recorded_success_has_its_money = true;
bool a_recorded_failure_took_no_money = true;
bool never_reached = true;

#define promise(name, holds) name = (holds); assert(name); name = true

#ifdef REACHED
#define reached(what) if :: (REACHED == what) -> never_reached = false; assert(never_reached) :: else fi
#else
#define reached(what) skip
#endif
#define BY_FAILOVER 1    /* the second gateway took the money */
#define BY_RESEND   2    /* a resend told a takeover of a success */
#define BY_LOOK_UP  3    /* a look-up told a takeover of a success */
#define BY_ABSENCE  4    /* a look-up that found nothing was believed, and the next gateway was asked */
#define REFUSED     5    /* a stale worker was refused by the fence */
#define IN_REVIEW   6    /* a person was asked */
#define LATE        7    /* a request took effect after its sender had died */

#define unfinished(op) (status[op] == STARTED || status[op] == DOUBT)
#define room(op)       (rides[2*(op)] == 0 || rides[2*(op)+1] == 0)
#define riding(op)     (rides[2*(op)] != 0 || rides[2*(op)+1] != 0)
#define expects(w)     (waits_for[0] == w+1 || waits_for[1] == w+1 || waits_for[2] == w+1 || waits_for[3] == w+1)
#define timed(op)      ((gives[op] & HAS_LOOK) != 0) /* a look-up is all that ever asks for these timers */
#define least(a, b)    ((a) < (b) -> (a) : (b))

/* Leases.covers_call: the worker's copy of the due time is the row's, and long past once another has taken over. */
#ifdef LEASE_IGNORED
#define covered(w) true
#else
#define covered(w) (fenced[w] && row != 0 && lease > 0)
#endif

#ifdef NO_FENCE
#define may_write(w) true
#else
#define may_write(w) (fenced[w])
#endif

#ifdef KEY_EXPIRY_IGNORED
#define key_lives(op) true
#else
#define key_lives(op) (!aged[op])
#endif

#ifdef RESEND_WITHOUT_KEYS
#define replays(op) true
#else
#define replays(op) ((gives[op] & HAS_KEY) != 0)
#endif

#ifdef NO_QUIET
#define quiet_is_over(w) true
#else
#define quiet_is_over(w) (sent[w] >= QUIET)
#endif

inline forget(w) {
  /* Nobody waits for the reply any more. */
  reply[w] = 0;
  if :: waits_for[0] == w+1 -> waits_for[0] = 0 :: else fi;
  if :: waits_for[1] == w+1 -> waits_for[1] = 0 :: else fi;
  if :: waits_for[2] == w+1 -> waits_for[2] = 0 :: else fi;
  if :: waits_for[3] == w+1 -> waits_for[3] = 0 :: else fi
}

inline rest(w) {
  /* What a worker held in memory is gone; the row, if any, stays. */
  at[w] = IDLE; fenced[w] = false; sent[w] = 0; forget(w);
  op = 0; outcome = 0; serves = false; again = false
}

inline open_row(w, which) {
  row = which + 1; owner = w + 1; lease = LEASE; overdue = 0; row_sent = 0; sent[w] = 0;
  fenced[w] = true; fenced[1 - w] = false
}

inline close_row() {
  row = 0; owner = 0; lease = 0; overdue = 0; row_sent = 0
}

inline keep_row(w, who, ticks) {
  owner = who; lease = ticks; overdue = 0; row_sent = sent[w]
}

inline leave(w, which, other_key) {
  /* The request leaves, unless the way to the gateway provably broke before. It may be lost later. */
  promise(nothing_sent_while_another_gateway_is_in_doubt, which == 0 || !unfinished(0));
  if
  :: !calm -> reply[w] = NOT_SENT
  :: rides[2*which] == 0 ->
       rides[2*which] = QUIET; fresh_key[2*which] = other_key; waits_for[2*which] = w+1
  :: rides[2*which] != 0 && rides[2*which+1] == 0 ->
       rides[2*which+1] = QUIET; fresh_key[2*which+1] = other_key; waits_for[2*which+1] = w+1
  :: !calm && !room(which) -> skip
  fi
}

inline begin_next(w) {
  /* The outcome of one attempt and the intent of the next are one commit. */
  status[1] = STARTED; open_row(w, 1); op = 1; outcome = 0; again = false; at[w] = SEND
}

inline record(w) {
  /* Recorder.record, decide: the outcome of `op`, under the fence. */
  if
  :: !may_write(w) -> reached(REFUSED); rest(w)
  :: may_write(w) && !unfinished(op) -> rest(w)
  :: may_write(w) && unfinished(op) && outcome == APPROVED ->
       promise(a_recorded_success_has_its_money, live[op] == 1);
       if :: op == 1 -> reached(BY_FAILOVER) :: else fi;
       status[op] = APPROVED; payment = SUCCEEDED; close_row(); rest(w)
  :: may_write(w) && unfinished(op) && (outcome == DECLINED || outcome == NOT_SENT) ->
       status[op] = outcome;
       if
       :: serves && op == 0 && status[1] == NONE -> /* the driver has a further candidate, and time for it */
            if :: outcome == NOT_SENT && (gives[0] & HAS_LOOK) && sent[w] >= QUIET -> reached(BY_ABSENCE) :: else fi;
            begin_next(w)
       :: true -> /* no candidate, no time, or nobody waits: recovery never begins an attempt */
            payment = FAILED; close_row();
            promise(a_recorded_failure_took_no_money, live[0] + live[1] == 0);
            rest(w)
       fi
  :: may_write(w) && unfinished(op) && outcome == DOUBT ->
       status[op] = DOUBT; outcome = 0;
#ifdef FAILOVER_IN_DOUBT
       if
       :: serves && op == 0 && status[1] == NONE -> begin_next(w)
       :: else -> keep_row(w, w + 1, LEASE); at[w] = RENEW
       fi
#else
       if
       :: fenced[w] -> keep_row(w, w + 1, LEASE); at[w] = RENEW
       :: else -> rest(w)
       fi
#endif
  fi
}

proctype worker(byte me) {
  byte op, outcome;
  bool serves;  /* a caller waits: only then may another gateway be asked */
  bool again;   /* this call is a resend */

end:
  do
  /* A client's request, or the same request once more at another instance. */
  :: atomic { at[me] == IDLE && !asked[me] -> asked[me] = true; serves = true; at[me] = CREATE }

  /* Orchestrator._create: claim, intent and lease in one commit. */
  :: atomic { at[me] == CREATE ->
#ifdef NO_INTENT
       if
       :: payment == UNKNOWN && !again && !riding(0) -> again = true; leave(me, 0, false)
       :: payment == UNKNOWN && again -> again = false; payment = OPEN; status[0] = STARTED; open_row(me, 0); at[me] = WAIT
       :: payment != UNKNOWN || (!again && riding(0)) -> rest(me)
       fi
#else
       if
       :: payment == UNKNOWN -> payment = OPEN; status[0] = STARTED; open_row(me, 0); at[me] = SEND;
#ifndef NO_CLAIM
            asked[0] = true; asked[1] = true /* a repetition that arrives later finds the claim: nothing follows from it */
#endif
#ifdef NO_CLAIM
       :: payment != UNKNOWN && status[1] == NONE -> /* a payment of its own, which the router sends to gateway 1 */
            status[1] = STARTED; rides[2] = QUIET; rest(me)
#endif
       :: payment != UNKNOWN -> rest(me) /* the key is claimed: the answer is that payment's */
       fi
#endif
     }

  /* Calls.send, Driver._send */
  :: atomic { at[me] == SEND && covered(me) && (room(op) || !calm) -> leave(me, op, false); at[me] = WAIT }
  :: atomic { at[me] == SEND && !covered(me) -> outcome = DOUBT; sent[me] = 0; at[me] = RECORD }

  /* The call ends with a reply, or without one. */
  :: atomic { at[me] == WAIT && reply[me] != 0 && !again ->
       outcome = reply[me]; reply[me] = 0; sent[me] = 0;
       if
       :: outcome == NOT_SENT && fenced[me] && row != 0 -> lease = LEASE; overdue = 0; at[me] = SEND /* inline retry */
       :: true -> at[me] = RECORD
       fi }
  :: atomic { at[me] == WAIT && reply[me] != 0 && again ->
       outcome = reply[me]; reply[me] = 0; sent[me] = 0; again = false;
       if
       :: outcome == APPROVED -> reached(BY_RESEND); at[me] = RECORD
       :: outcome == DECLINED -> at[me] = RECORD
#ifdef NOT_SENT_RESEND_IS_EVIDENCE
       :: outcome == NOT_SENT -> at[me] = RECORD
#endif
       :: outcome == NOT_SENT || outcome == DOUBT -> outcome = 0; at[me] = LOOK
       fi }
  :: atomic { at[me] == WAIT && reply[me] == 0 && (!calm || !expects(me)) ->
       forget(me); sent[me] = 0;
       if :: again -> again = false; at[me] = LOOK :: else -> outcome = DOUBT; at[me] = RECORD fi }

  :: atomic { at[me] == RECORD -> record(me) }

  /* Leases.renew: refused where the fence was raised. */
  :: atomic { at[me] == RENEW ->
       if
       :: fenced[me] && row != 0 -> lease = LEASE; overdue = 0; at[me] = SEEK
       :: else -> reached(REFUSED); rest(me)
       fi }
  :: atomic { at[me] == RENEW && !calm -> at[me] = GIVE }

  /* EvidenceSearch.seek: a resend under the stable key, while the key lives and the lease runs; or a look-up. */
  :: atomic { at[me] == SEEK && replays(op) && key_lives(op) && covered(me) && (room(op) || !calm) ->
       again = true;
#ifdef KEY_CHANGES
       leave(me, op, true);
#else
       leave(me, op, false);
#endif
       at[me] = WAIT }
  :: atomic { at[me] == SEEK && ((gives[op] & HAS_LOOK) || !(replays(op) && key_lives(op) && covered(me))) -> at[me] = LOOK }

  /* EvidenceSearch.look. What was seen is recorded in a later step: it may be stale by then. */
  :: atomic { at[me] == LOOK ->
       if
       :: (gives[op] & HAS_LOOK) && live[op] > 0 -> reached(BY_LOOK_UP); outcome = APPROVED; at[me] = RECORD
       :: (gives[op] & HAS_LOOK) && live[op] == 0 && refused[op] -> outcome = DECLINED; at[me] = RECORD
       :: (gives[op] & HAS_LOOK) && live[op] == 0 && !refused[op] && quiet_is_over(me) -> outcome = NOT_SENT; at[me] = RECORD
       :: !(gives[op] & HAS_LOOK) || !calm || (live[op] == 0 && !refused[op] && !quiet_is_over(me)) -> at[me] = GIVE
       fi }

  /* No evidence yet: asked again while the caller waits, a person is asked, or it is handed over for later. */
  :: atomic { at[me] == GIVE && serves && !calm -> at[me] = RENEW }
#ifdef FAILED_BY_TIMER
  :: atomic { at[me] == GIVE && aged[op] -> outcome = NOT_SENT; serves = false; at[me] = RECORD }
#else
  :: atomic { at[me] == GIVE ->
       if
       :: fenced[me] && row != 0 ->
            if
            :: aged[op] && !(gives[op] & HAS_LOOK) -> review = true; reached(IN_REVIEW)
            :: else
            fi;
            keep_row(me, 0, 1); rest(me)
       :: else -> rest(me)
       fi }
#endif

  /* RecoveryWorker: takes over what is due, with a higher fence. */
#ifndef NO_TAKEOVER
  :: atomic { at[me] == IDLE && row != 0 && lease == 0 ->
       op = row - 1; serves = false;
#ifdef QUIET_FROM_RECORD
       sent[me] = row_sent;
#else
       sent[me] = (owner != 0 -> least(row_sent, overdue) : row_sent);
#endif
       keep_row(me, me + 1, LEASE);
       fenced[me] = true; fenced[1 - me] = false;
       if :: !may_write(1 - me) -> sent[1 - me] = 0 :: else fi;
       if
#ifdef CRASH_MEANS_NOT_SENT
       :: status[op] == STARTED -> outcome = NOT_SENT; at[me] = RECORD
#else
       :: status[op] == STARTED -> outcome = DOUBT; at[me] = RECORD
#endif
       :: else -> at[me] = RENEW
       fi }
#endif

  /* The process dies, here or anywhere, and comes back with an empty memory. */
  :: atomic { !calm && at[me] != IDLE -> rest(me) }
  od
}

inline clear(slot, which) {
  /* The younger of two moves up, so that it makes no difference which slot a request has. */
  if
  :: slot == 2 * which ->
       rides[slot] = rides[slot+1]; fresh_key[slot] = fresh_key[slot+1]; waits_for[slot] = waits_for[slot+1];
       rides[slot+1] = 0; fresh_key[slot+1] = false; waits_for[slot+1] = 0
  :: else -> rides[slot] = 0; fresh_key[slot] = false; waits_for[slot] = 0
  fi
}

inline land(slot, which) {
  /* A request reaches its gateway. Under a key that it keeps, a gateway replays; else it executes. */
  byte answer = DOUBT;
  byte under = 2 * which + (fresh_key[slot] -> 1 : 0);
  byte asker = waits_for[slot];
  clear(slot, which);
  if
  :: (gives[which] & HAS_KEY) && kept[under] != 0 -> answer = kept[under]
  :: !((gives[which] & HAS_KEY) && kept[under] != 0) ->
       live[which]++;
       promise(no_effect_without_a_record, status[which] != NONE);
       promise(one_live_charge, live[0] + live[1] <= 1);
       promise(no_effect_after_a_recorded_no, unfinished(which) && payment != FAILED);
       if :: asker == 0 -> reached(LATE) :: else fi;
       answer = APPROVED; kept[under] = ((gives[which] & HAS_KEY) -> APPROVED : 0)
  :: !((gives[which] & HAS_KEY) && kept[under] != 0) ->
       refused[which] = true; answer = DECLINED; kept[under] = ((gives[which] & HAS_KEY) -> DECLINED : 0)
  :: !calm -> skip /* an error before any effect */
  fi;
  if
  :: asker != 0 -> reply[asker - 1] = answer
  :: asker != 0 && !calm -> reply[asker - 1] = DOUBT /* an error, or garbage, after it */
  :: asker == 0 || !calm -> skip /* the reply is lost */
  fi;
  answer = 0; under = 0; asker = 0
}

proctype network() {
end:
  do
  :: atomic { rides[0] != 0 -> land(0, 0) }
  :: atomic { rides[1] != 0 -> land(1, 0) }
  :: atomic { rides[2] != 0 -> land(2, 1) }
  :: atomic { rides[3] != 0 -> land(3, 1) }
  :: atomic { !calm && rides[0] != 0 -> clear(0, 0) }
  :: atomic { !calm && rides[1] != 0 -> clear(1, 0) }
  :: atomic { !calm && rides[2] != 0 -> clear(2, 1) }
  :: atomic { !calm && rides[3] != 0 -> clear(3, 1) }
  od
}

/* A gateway forgets a key some time after its declared life; a request that left within that life has landed by then. */
proctype ages() {
end:
  do
  :: atomic { unfinished(0) && !aged[0] && (gives[0] & HAS_KEY) -> aged[0] = true }
  :: atomic { unfinished(1) && !aged[1] && (gives[1] & HAS_KEY) -> aged[1] = true }
  :: atomic { aged[0] && !riding(0) && (kept[0] != 0 || kept[1] != 0) -> kept[0] = 0; kept[1] = 0 }
  :: atomic { aged[1] && !riding(1) && (kept[2] != 0 || kept[3] != 0) -> kept[2] = 0; kept[3] = 0 }
  od
}

#define waiting(w) (at[w] == WAIT || (at[w] == IDLE && !(row != 0 && lease == 0)))
#define later(timer) timer = least(timer + 1, QUIET)

/* Anybody may be slow while there are faults. Once there are none, nobody dawdles while there is something to do. */
proctype clock() {
end:
  do
  :: d_step { (row != 0 || riding(0) || riding(1)) &&
       rides[0] != 1 && rides[1] != 1 && rides[2] != 1 && rides[3] != 1 &&
       (!calm || (waiting(0) && waiting(1) && !riding(0) && !riding(1))) ->
       if
       :: lease > 0 -> lease--
       :: lease == 0 && owner != 0 && timed(row - 1) -> later(overdue)
       :: else
       fi;
       if :: row != 0 && timed(row - 1) -> later(row_sent) :: else fi;
       if :: at[0] != IDLE && may_write(0) && row != 0 && timed(row - 1) -> later(sent[0]) :: else fi;
       if :: at[1] != IDLE && may_write(1) && row != 0 && timed(row - 1) -> later(sent[1]) :: else fi;
       if :: rides[0] > 1 -> rides[0]-- :: else fi;
       if :: rides[1] > 1 -> rides[1]-- :: else fi;
       if :: rides[2] > 1 -> rides[2]-- :: else fi;
       if :: rides[3] > 1 -> rides[3]-- :: else fi }
  od
}

#ifdef LIVENESS
proctype peace() { calm = true }

/*
 * Once faults stop, whatever was recorded is settled: by evidence, or by a person. A person is asked (see GIVE) only where
 * the key has aged and the gateway has no look-up, so that no evidence is left to be had.
 */
ltl drains { [] ((calm && payment != UNKNOWN) -> <> (payment == SUCCEEDED || payment == FAILED || review)) }
#endif

init {
  atomic {
    if :: gives[0] = HAS_KEY :: gives[0] = HAS_LOOK :: gives[0] = HAS_KEY | HAS_LOOK fi;
    if :: gives[1] = HAS_KEY :: gives[1] = HAS_LOOK :: gives[1] = HAS_KEY | HAS_LOOK fi;
    run worker(0); run worker(1); run network(); run ages(); run clock()
#ifdef LIVENESS
    ; run peace()
#endif
  }
}
