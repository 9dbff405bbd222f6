//! The faults: how each is brought about under load, and what proves that it hit.

use std::process::Command;

use pgstream_host::demo::Stop;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use tonic::Code;

use super::load::Load;
use super::world::{Kind, World};
use crate::support::proxy::Way;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// SIGKILL.
    HostKilled,
    /// SIGSTOP, and SIGCONT later.
    HostFrozen,
    /// Postgres stops as for an upgrade.
    FastRestart,
    /// Postgres stops as in a crash.
    ImmediateRestart,
    /// No connection to the sink, then one again.
    SinkDown,
    SinkSlow,
    /// Every connection to the source is reset.
    SourceCut,
    /// What is sent to the source, and what it sends, vanishes; then the ways are open again, or the connections are reset.
    SourceBlackholed,
    SinkBlackholed,
    /// There is no room for what the sink has to write down.
    DiskFull,
    /// No fault: the settings change, or the component does, and the host reads them while all goes on.
    Reload,
    /// The slot is dropped: the one fault after which changes are missing, and that must be said or made good.
    SlotDropped,
}

impl Fault {
    const ALL: [Fault; 12] = [
        Fault::HostKilled,
        Fault::HostFrozen,
        Fault::FastRestart,
        Fault::ImmediateRestart,
        Fault::SinkDown,
        Fault::SinkSlow,
        Fault::SourceCut,
        Fault::SourceBlackholed,
        Fault::SinkBlackholed,
        Fault::DiskFull,
        Fault::Reload,
        Fault::SlotDropped,
    ];

    /// Whether it can happen to a run.
    fn concerns(self, kind: Kind) -> bool {
        match self {
            Fault::SinkDown | Fault::SinkSlow | Fault::SinkBlackholed => kind != Kind::QdrantEdge,
            _ => true,
        }
    }

    /// Whether something else may go wrong while it lasts.
    fn lasts(self) -> bool {
        matches!(
            self,
            Fault::SinkDown | Fault::SinkSlow | Fault::SourceBlackholed | Fault::SinkBlackholed | Fault::DiskFull
        )
    }
}

/// A fault at its time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// Transactions of the load before it.
    after: u64,
    pub(super) fault: Fault,
    /// Transactions of the load that it lasts for.
    lasting: u64,
    /// What goes wrong meanwhile.
    pub(super) meanwhile: Option<Fault>,
    /// Whether all rows are asked for once more before it.
    backfill: bool,
    /// Which of two endings it takes.
    abrupt: bool,
}

/// Every fault that concerns the sink once, in an order and at times that follow from the seed; then `more` of any.
pub(super) fn schedule(seed: u64, kind: Kind, more: usize) -> Vec<Step> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut faults: Vec<Fault> = Fault::ALL.into_iter().filter(|fault| fault.concerns(kind)).collect();
    let all = faults.clone();
    faults.extend((0..more).map(|_| all[random.random_range(0..all.len())]));
    faults.shuffle(&mut random);
    let other = [
        Fault::HostKilled,
        Fault::SourceCut,
        Fault::ImmediateRestart,
        Fault::FastRestart,
        Fault::Reload,
        Fault::Reload,
    ];
    faults
        .into_iter()
        .map(|fault| Step {
            after: random.random_range(3..25),
            fault,
            lasting: random.random_range(5..40),
            meanwhile: (fault.lasts() && random.random_bool(0.4)).then(|| other[random.random_range(0..other.len())]),
            backfill: random.random_bool(0.15),
            abrupt: random.random_bool(0.5),
        })
        .collect()
}

impl World<'_> {
    /// Carries out a step. Answers the faults of it that hit: each was seen to have an effect while the load went on.
    pub(super) async fn suffer(
        &mut self,
        step: Step,
        load: &Load,
        copies: &mut Vec<std::process::Child>,
    ) -> Vec<Fault> {
        self.pass(load, step.after).await;
        if step.backfill {
            copies.push(self.ask_for_copies());
        }
        let before = load.transactions();
        let mut hit = Vec::new();
        if self.begin(step).await {
            hit.push(step.fault);
        }
        if let Some(fault) = step.meanwhile {
            let alone = Step { fault, meanwhile: None, abrupt: false, ..step };
            if self.begin(alone).await {
                hit.push(fault);
            }
        }
        if step.fault.lasts() || step.fault == Fault::HostFrozen {
            self.pass(load, step.lasting).await;
        }
        self.end(step).await;
        self.pass(load, 1).await;
        assert!(load.transactions() > before, "the load goes on");
        hit
    }

    /// Lets the load commit so many transactions.
    async fn pass(&mut self, load: &Load, transactions: u64) {
        let moment = load.transactions() + transactions;
        self.until("the load goes on", async |_: &mut Self| load.transactions() >= moment).await;
    }

    /// Answers whether it hit something.
    async fn begin(&mut self, step: Step) -> bool {
        match step.fault {
            Fault::HostKilled => {
                if step.abrupt {
                    // At work for sure, and not while it starts.
                    self.until("the host streams", async |world: &mut Self| world.streams()).await;
                }
                let alive = self.host.exit().is_none();
                self.kill_host();
                self.start_host();
                alive
            }
            Fault::HostFrozen => {
                self.until("the host streams", async |world: &mut Self| world.streams()).await;
                self.host.signal(Signal::STOP);
                let status = format!("/proc/{}/stat", self.host.pid());
                self.until("the host stands still", async |_: &mut Self| {
                    let status = std::fs::read_to_string(&status).unwrap();
                    status.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
                })
                .await;
                true
            }
            Fault::FastRestart => self.restart(Stop::Fast),
            Fault::ImmediateRestart => self.restart(Stop::Immediate),
            Fault::SourceCut => {
                // While its sink is down, a host that has to start anew never comes to connect.
                let given_up = self.restarts + 3;
                let connected = async |world: &mut Self| world.source.open() > 0 || world.restarts > given_up;
                self.until("the host is connected", connected).await;
                self.source.cut() > 0
            }
            Fault::SinkDown => {
                let before = self.sink.broken();
                self.sink.set(Way::Closed);
                self.until("the host misses its sink", async |world: &mut Self| world.sink.broken() > before).await;
                true
            }
            Fault::SinkSlow => self.touched(step.fault, Way::Slow).await,
            Fault::SourceBlackholed | Fault::SinkBlackholed => self.touched(step.fault, Way::Blackhole).await,
            Fault::DiskFull => self.fill_disk().await,
            Fault::Reload => self.reload(step.abrupt).await,
            Fault::SlotDropped => self.lose_slot().await,
        }
    }

    async fn end(&mut self, step: Step) {
        match step.fault {
            Fault::HostFrozen => {
                if step.abrupt {
                    // Long enough for the server to give the connection up.
                    self.until("the server gives the host up", async |world: &mut Self| !world.streams()).await;
                }
                self.host.signal(Signal::CONT);
            }
            Fault::SourceBlackholed | Fault::SinkBlackholed if step.abrupt => {
                let way = if step.fault == Fault::SourceBlackholed { &self.source } else { &self.sink };
                way.cut();
                way.set(Way::Open);
            }
            Fault::DiskFull => self.empty_disk().await,
            _ => self.heal(),
        }
    }

    fn restart(&mut self, how: Stop) -> bool {
        let since = self.ask("SELECT pg_postmaster_start_time()");
        tokio::task::block_in_place(|| {
            self.cluster.stop(how).unwrap();
            self.cluster.start_again().unwrap();
        });
        since != self.ask("SELECT pg_postmaster_start_time()")
    }

    /// Waits until bytes have met the way as it is now.
    async fn touched(&mut self, fault: Fault, now: Way) -> bool {
        let way =
            |world: &Self| if fault == Fault::SourceBlackholed { world.source.touched() } else { world.sink.touched() };
        let before = way(self);
        if fault == Fault::SourceBlackholed { &self.source } else { &self.sink }.set(now);
        self.until("bytes are on their way", async |world: &mut Self| way(world) > before).await;
        true
    }

    async fn fill_disk(&mut self) -> bool {
        match self.kind {
            Kind::Pgvector => {
                // The sink makes the table of positions when it first resumes.
                self.until("there is a position to store", async |world: &mut Self| {
                    let there = "SELECT to_regclass('pgstream.positions') IS NOT NULL";
                    world.cluster.psql(&world.vectors, there).is_ok_and(|there| there == "t")
                })
                .await;
                self.until("the disk is full", async |world: &mut Self| {
                    world.cluster.psql(&world.vectors, FULL).is_ok()
                })
                .await;
            }
            Kind::Qdrant => self.qdrant.fail(usize::MAX, Code::Internal),
            Kind::QdrantEdge => {
                let pid = self.host.pid().to_string();
                let (before, limit) = (self.full, ["--pid", &pid, "--fsize=4096:"]);
                if !Command::new("prlimit").args(limit).status().unwrap().success() {
                    return false; // it has just ended by itself
                }
                self.until("the host finds no room", async |world: &mut Self| world.full > before).await;
                return true;
            }
        }
        let seen = |log: &str| log.contains("SQLSTATE 53100") || log.contains("told to fail");
        let before = self.host.log().len();
        self.until("the host finds no room", async |world: &mut Self| {
            let log = world.host.log();
            seen(log.get(before..).unwrap_or(&log))
        })
        .await;
        true
    }

    async fn empty_disk(&mut self) {
        match self.kind {
            Kind::Pgvector => {
                let sql = "DROP TRIGGER no_room ON points";
                self.until("there is room again", async |world: &mut Self| {
                    world.cluster.psql(&world.vectors, sql).is_ok()
                })
                .await;
            }
            Kind::Qdrant => self.qdrant.fail(0, Code::Internal),
            Kind::QdrantEdge => {} // the limit was that of a process, which has ended
        }
    }

    /// Drops the slot from under the host, which must begin anew if it may, or else end with what to type; that is then typed.
    async fn lose_slot(&mut self) -> bool {
        let slot = self.slot();
        let sql = format!(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active;
             SELECT pg_drop_replication_slot('{slot}')"
        );
        self.until("the pipeline runs", async |world: &mut Self| world.streams()).await;
        self.until("the slot is dropped", async |world: &mut Self| world.ask(&sql).is_some()).await;
        if self.resnapshots {
            self.until("the pipeline has a new slot", async |world: &mut Self| world.streams()).await;
            return true;
        }
        let (_, log) = self.host.ended().await;
        let gone = format!("slot `{slot}` is gone");
        assert!(log.contains(&gone) && log.contains("changes made meanwhile never reach the pipeline"), "{log}");
        self.start_host();
        let (status, log) = self.host.ended().await;
        assert!(!status.success() && log.contains(&gone), "nor does it begin anew by itself: {log}");
        let output = self.command("resnapshot");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.start_host();
        true
    }
}

const FULL: &str = "
    CREATE OR REPLACE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';
    END $$;
    CREATE OR REPLACE TRIGGER no_room BEFORE INSERT OR UPDATE OR DELETE ON points
        FOR EACH STATEMENT EXECUTE FUNCTION no_room()";
