//! Claims, floods and splits, against what is let in.

use super::*;

fn message(tag: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend((length as u32).to_be_bytes());
    bytes.resize(length + 1, 0);
    bytes
}

fn setting(name: &str) -> Vec<u8> {
    let mut bytes = message(b'S', 4 + name.len() + 2);
    bytes[5..5 + name.len()].copy_from_slice(name.as_bytes());
    bytes
}

fn logged_in() -> Intake {
    let mut intake = Intake::new(true);
    let login = [message(b'R', 8), setting("server_version"), message(b'K', 12), message(b'Z', 5)].concat();
    assert!(intake.pass(&login).is_ok());
    intake
}

fn refusal(intake: &mut Intake, bytes: &[u8]) -> String {
    match intake.pass(bytes) {
        Ok(()) => panic!("it was let in"),
        Err(Refusal { error, .. }) => {
            assert_eq!(error.fault(), Fault::Environment);
            assert!(error.advice().is_some());
            error.to_string()
        }
    }
}

#[test]
fn a_claim_is_refused_by_what_the_protocol_needs_at_that_point() {
    let claim = |tag: u8, length: u32| [&[tag][..], &length.to_be_bytes()].concat();
    for (tag, most) in [(b'R', DEMAND), (b'S', PARAMETER), (b'K', SHORT), (b'E', LOGIN_MESSAGE), (b'D', LOGIN_MESSAGE)]
    {
        let mut claimed = claim(tag, most as u32 + 1);
        claimed.extend([0; 4]);
        assert!(refusal(&mut Intake::new(true), &claimed).contains("during the login"), "{tag}");
        assert!(Intake::new(true).pass(&claim(tag, most as u32)).is_ok(), "{tag}");
    }
    for (tag, most) in
        [(b'D', 64 << 20), (b'E', REMARK), (b'N', REMARK), (b'T', COLUMNS), (b'C', SHORT), (b'd', 64 << 20)]
    {
        assert!(refusal(&mut logged_in(), &claim(tag, most as u32 + 1)).contains("at this point"), "{tag}");
        assert!(logged_in().pass(&claim(tag, (most - OVERHEAD) as u32)).is_ok(), "{tag}");
    }
    assert!(refusal(&mut logged_in(), &claim(b'D', u32::MAX)).contains("of 4294967295 bytes"));
    assert!(refusal(&mut logged_in(), &claim(b'D', 3)).contains("claims a length of 3 bytes"));
}

#[test]
fn only_a_session_that_awaits_a_stream_gets_one() {
    let long = [&message(b'W', 8)[..], b"d", &(1u32 << 30).to_be_bytes()].concat();
    assert!(refusal(&mut logged_in(), &long).contains("tag 0x64"));
    let mut intake = logged_in();
    intake.let_stream();
    assert!(intake.pass(&long).is_ok());
}

#[test]
fn many_short_messages_are_counted_too() {
    let mut intake = Intake::new(true);
    let endless = setting("x").repeat(LOGIN / (OVERHEAD + 7) + 1);
    assert!(refusal(&mut intake, &endless).contains("to the login"));

    let mut intake = logged_in();
    intake.set_room(Room { row: 1 << 10, answer: 1 << 10, help: "ask for less" });
    for _ in 0..3 {
        assert!(intake.pass(&[message(b'D', 900), message(b'Z', 5)].concat()).is_ok(), "each answer counts for itself");
    }
    assert!(refusal(&mut intake, &message(b'D', 100).repeat(7)).contains("to one query"));
    assert!(refusal(&mut logged_in(), &message(b'N', 1 << 20).repeat(17)).contains("in remarks"));
}

#[test]
fn a_setting_counts_once_however_often_it_changes() {
    let mut intake = logged_in();
    for _ in 0..10 * PARAMETERS {
        assert!(intake.pass(&setting("search_path")).is_ok());
    }
    let many: Vec<u8> = (0..PARAMETERS + 1).flat_map(|number| setting(&format!("setting{number}"))).collect();
    assert!(refusal(&mut intake, &many).contains("more than 256 settings"));
}

#[test]
fn a_password_is_not_asked_for_in_clear_text_where_others_can_read() {
    let asked = [&b"R"[..], &8u32.to_be_bytes(), &CLEAR_TEXT].concat();
    for before in [vec![], message(b'N', 30), message(b'v', 12)] {
        let bytes = [before.clone(), asked.clone()].concat();
        assert!(Intake::new(true).pass(&bytes).is_ok());
        for at in 0..bytes.len() {
            let mut intake = Intake::new(false);
            let (first, second) = bytes.split_at(at);
            assert!(intake.pass(first).is_ok());
            let Err(Refusal { good, error }) = intake.pass(second) else { panic!("split at {at}") };
            assert!(error.to_string().contains("clear text"));
            assert_eq!(good, before.len().saturating_sub(at), "split at {at}");
        }
    }
}

#[test]
fn what_came_before_a_refused_message_is_good_wherever_the_reads_are_split() {
    let bytes = [message(b'C', 9), message(b'Z', 5), message(b'D', 2 << 10)].concat();
    for at in 0..10 + 6 + 4 {
        let mut intake = logged_in();
        intake.set_room(Room { row: 1 << 10, answer: 1 << 20, help: "" });
        let (first, second) = bytes.split_at(at);
        assert!(intake.pass(first).is_ok());
        assert_eq!(
            intake.unjudged(),
            [at, at.saturating_sub(10), at.saturating_sub(16)].into_iter().find(|had| *had < 5).unwrap_or(0),
            "split at {at}"
        );
        let Err(Refusal { good, .. }) = intake.pass(second) else { panic!("split at {at}") };
        assert_eq!(good, 16usize.saturating_sub(at), "split at {at}");
    }
}

/// A statement whose parameters and columns are of these types.
fn described(parameters: &[u32], columns: &[u32]) -> Vec<u8> {
    let count = |oids: &[u32]| (oids.len() as u16).to_be_bytes();
    let body = |tag: u8, body: &[u8]| [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat();
    let mut told = count(parameters).to_vec();
    told.extend(parameters.iter().flat_map(|oid| oid.to_be_bytes()));
    let mut answer = count(columns).to_vec();
    for oid in columns {
        answer.extend(b"name\0\0\0\0\0\0\0");
        answer.extend(oid.to_be_bytes());
        answer.extend([0, 4, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0]);
    }
    [body(b't', &told), body(b'T', &answer)].concat()
}

#[test]
fn a_type_that_the_driver_would_have_to_ask_for_is_refused_wherever_it_stands() {
    let (known, asked_for, row_of_a_table) = (1009, 16_385, 83);
    let good = [described(&[25, known], &[20, known, 25]), described(&[], &[]), message(b'Z', 5)].concat();
    for told in [described(&[25, asked_for], &[25]), described(&[25], &[25, row_of_a_table])] {
        let all = [&good[..], &told].concat();
        assert!(refusal(&mut logged_in(), &all).contains("a type of its own"));
        // However it comes in pieces.
        let mut intake = logged_in();
        let refused = all.chunks(1).filter_map(|byte| intake.pass(byte).err()).next();
        assert!(refused.is_some_and(|refused| refused.error.to_string().contains("a type of its own")));
        let Err(Refusal { good: let_in, .. }) = logged_in().pass(&all) else { panic!("it was let in") };
        assert!(let_in >= good.len() && let_in < all.len());
    }
    // What is asked without being prepared is read as text: no type of it is ever looked up.
    let answer = described(&[], &[asked_for]);
    let answer = &answer[7..];
    assert!(logged_in().pass(&[&good[..], answer].concat()).is_ok());
}
