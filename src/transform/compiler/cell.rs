//! The compiler's cell: what takes a process's rights away before it looks at what a stranger
//! wrote.
//!
//! A mistake in the compiler may let a component act in its process. There it finds nothing: no
//! files, no network, no other process that it could start, read or signal, no secret in memory or
//! environment. It can answer, with machine code of its own making, and that runs in the host: the
//! cell is no boundary against a compiler that is taken over, only around what it does itself.

use std::io;

/// Shuts the process in. Answers what of it the system does not know, and thus is not in force.
///
/// # Errors
/// Fails if the system knows a part of it, and refuses that part all the same.
pub(super) fn enter() -> io::Result<Vec<String>> {
    close_all_but_the_pipes();
    #[cfg(target_os = "linux")]
    return linux::enter();
    #[cfg(not(target_os = "linux"))]
    Ok(Vec::new())
}

/// A part of [`enter`].
#[cfg(all(test, target_os = "linux"))]
pub(super) fn landlock_alone() -> io::Result<Vec<String>> {
    rustix::thread::set_no_new_privs(true)?;
    Ok(linux::landlock()?.into_iter().collect())
}

/// Closes what whoever started the host, or a library in it, left open for every child.
fn close_all_but_the_pipes() {
    let Ok(open) = std::fs::read_dir("/dev/fd") else { return };
    let numbers = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let numbers: Vec<i32> = numbers.filter(|number| *number > 2).collect();
    for number in numbers {
        let _ = nix::unistd::close(number); // the one of the folder is closed by now
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;
    use std::io;

    use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};
    use rustix::process::DumpableBehavior;
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
        TargetArch,
    };

    /// The newest version of Landlock that is asked for; what the kernel lacks of it is left out.
    const LANDLOCK: ABI = ABI::V6;

    pub(super) fn enter() -> io::Result<Vec<String>> {
        // No core dump, and nobody of this user looks into its memory.
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        rustix::thread::set_no_new_privs(true)?;
        let mut lacking = Vec::new();
        lacking.extend(landlock()?);
        lacking.extend(seccomp()?);
        Ok(lacking)
    }

    /// No file at all, no TCP, no signals and no sockets to processes outside.
    pub(super) fn landlock() -> io::Result<Option<String>> {
        let restrict = || {
            Ruleset::default()
                .handle_access(AccessFs::from_all(LANDLOCK))?
                .handle_access(AccessNet::from_all(LANDLOCK))?
                .scope(Scope::from_all(LANDLOCK))?
                .create()?
                .restrict_self()
        };
        let status = restrict().map_err(io::Error::other)?;
        Ok((status.ruleset == RulesetStatus::NotEnforced).then(|| "Landlock".to_owned()))
    }

    /// Nothing but to compute: what is not named is unknown to the process, as in a kernel that
    /// lacks it.
    fn seccomp() -> io::Result<Option<String>> {
        let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else {
            return Ok(Some("seccomp".to_owned()));
        };
        let filter = || -> Result<BpfProgram, seccompiler::BackendError> {
            let (allow, deny) = (SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32));
            SeccompFilter::new(allowed()?, deny, allow, arch)?.try_into()
        };
        let filter = filter().map_err(io::Error::other)?;
        match seccompiler::apply_filter(&filter) {
            // A kernel without it, or one that is only emulated.
            Err(seccompiler::Error::Seccomp(error))
                if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) =>
            {
                Ok(Some("seccomp".to_owned()))
            }
            applied => applied.map(|()| None).map_err(io::Error::other),
        }
    }

    type Rules = BTreeMap<i64, Vec<SeccompRule>>;

    /// Calls that a compiler makes: memory, threads of its own, time, chance, and its three pipes.
    fn allowed() -> Result<Rules, seccompiler::BackendError> {
        let with = |argument: u8, operator: SeccompCmpOp, value: i64| {
            let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value as u64)?;
            SeccompRule::new(vec![condition])
        };
        let is = |argument: u8, value: i64| with(argument, SeccompCmpOp::Eq, value);
        let not_executable = || with(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0);
        let thread = libc::CLONE_THREAD as u64;
        let own = i64::from(rustix::process::getpid().as_raw_nonzero().get());
        let mut rules = Rules::new();
        for call in [
            libc::SYS_brk,
            libc::SYS_clock_gettime,
            libc::SYS_clock_nanosleep,
            libc::SYS_close,
            libc::SYS_exit,
            libc::SYS_exit_group,
            libc::SYS_futex,
            libc::SYS_getpid,
            libc::SYS_getrandom,
            libc::SYS_gettid,
            libc::SYS_madvise,
            libc::SYS_mremap,
            libc::SYS_munmap,
            libc::SYS_nanosleep,
            libc::SYS_restart_syscall,
            libc::SYS_rseq,
            libc::SYS_rt_sigaction,
            libc::SYS_rt_sigprocmask,
            libc::SYS_rt_sigreturn,
            libc::SYS_sched_getaffinity,
            libc::SYS_sched_yield,
            libc::SYS_set_robust_list,
            libc::SYS_sigaltstack,
        ] {
            rules.insert(call, Vec::new());
        }
        rules.insert(libc::SYS_read, vec![is(0, 0)?]);
        rules.insert(libc::SYS_write, vec![is(0, 1)?, is(0, 2)?]);
        rules.insert(libc::SYS_writev, vec![is(0, 1)?, is(0, 2)?]);
        rules.insert(libc::SYS_mmap, vec![not_executable()?]);
        rules.insert(libc::SYS_mprotect, vec![not_executable()?]);
        rules.insert(libc::SYS_clone, vec![with(0, SeccompCmpOp::MaskedEq(thread), thread as i64)?]);
        rules.insert(libc::SYS_tgkill, vec![is(0, own)?]);
        rules.insert(libc::SYS_prctl, vec![is(0, i64::from(libc::PR_SET_NAME))?]);
        Ok(rules)
    }
}
