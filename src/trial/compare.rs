//! Comparison of answers with those that were expected.

use crate::event::json::Json;

/// The largest deviation of a vector's number, as a part of the expected number or, below 1, in
/// absolute terms: handlers compute with 32 bits, people write four digits.
const TOLERANCE: f64 = 1e-4;

/// Tells if the answers that came are those that were expected. Members of a point or a command
/// that an expectation leaves out are not compared; a payload that it states is compared whole.
pub(super) fn all_match(expected: &[Json], came: &[Json]) -> bool {
    expected.len() == came.len() && expected.iter().zip(came).all(|(expected, came)| matches(expected, came))
}

/// Of one answer.
pub(super) fn matches(expected: &Json, came: &Json) -> bool {
    seen_through(expected, came) == *came
}

/// The expected answer, written as what came wherever both mean the same: what remains different is
/// the difference.
pub(super) fn seen_through(expected: &Json, came: &Json) -> Json {
    match (expected, came) {
        (Json::Object(one), Json::Object(other)) => match (one.as_slice(), other.as_slice()) {
            ([(name, expected)], [(kind, came)]) if name == kind => {
                Json::Object(vec![(name.clone(), answer(name, expected, came))])
            }
            _ => expected_json(expected),
        },
        _ => expected_json(expected),
    }
}

fn expected_json(expected: &Json) -> Json {
    expected.clone()
}

fn answer(kind: &str, expected: &Json, came: &Json) -> Json {
    match (kind, expected, came) {
        ("rejected" | "stop" | "retry" | "failed", Json::Text(part), Json::Text(whole)) if whole.contains(part) => {
            came.clone()
        }
        _ => members(expected, came),
    }
}

/// Of a command or a point, which may leave members out.
fn members(expected: &Json, came: &Json) -> Json {
    let Json::Object(there) = came else { return leaf(expected, came) };
    let Json::Object(wanted) = expected else { return expected.clone() };
    let known = there.iter().map(|(name, came)| {
        let seen = match (expected.get(name), name.as_str()) {
            (None, _) => came.clone(),
            (Some(expected), "embeddings") => embeddings(expected, came),
            (Some(expected), "points") => points(expected, came),
            (Some(expected), _) => value(expected, came),
        };
        (name.clone(), seen)
    });
    let unknown = wanted.iter().filter(|(name, _)| came.get(name).is_none()).cloned();
    Json::Object(known.chain(unknown).collect())
}

fn points(expected: &Json, came: &Json) -> Json {
    let (Json::List(wanted), Json::List(there)) = (expected, came) else { return expected.clone() };
    let seen = wanted.iter().enumerate().map(|(index, expected)| match there.get(index) {
        Some(came) => members(expected, came),
        None => expected.clone(),
    });
    Json::List(seen.collect())
}

/// Of a payload: whole, but in any order of keys.
fn value(expected: &Json, came: &Json) -> Json {
    match (expected, came) {
        (Json::Object(wanted), Json::Object(there)) => {
            let known = there.iter().filter_map(|(name, came)| Some((name.clone(), value(expected.get(name)?, came))));
            let missing = wanted.iter().filter(|(name, _)| came.get(name).is_none()).cloned();
            Json::Object(known.chain(missing).collect())
        }
        (Json::List(wanted), Json::List(there)) => {
            let seen = wanted.iter().enumerate().map(|(index, expected)| match there.get(index) {
                Some(came) => value(expected, came),
                None => expected.clone(),
            });
            Json::List(seen.collect())
        }
        _ => leaf(expected, came),
    }
}

fn leaf(expected: &Json, came: &Json) -> Json {
    if expected.same(came) { came.clone() } else { expected.clone() }
}

/// By name; texts as they are, numbers with some tolerance.
fn embeddings(expected: &Json, came: &Json) -> Json {
    let (Json::Object(wanted), Json::Object(there)) = (expected, came) else { return expected.clone() };
    let known = there.iter().filter_map(|(name, came)| {
        let expected = expected.get(name)?;
        Some((name.clone(), if near(expected, came) { came.clone() } else { expected.clone() }))
    });
    let missing = wanted.iter().filter(|(name, _)| came.get(name).is_none()).cloned();
    Json::Object(known.chain(missing).collect())
}

fn near(expected: &Json, came: &Json) -> bool {
    match (expected, came) {
        (Json::Number(expected), Json::Number(came)) => match (expected.parse::<f64>(), came.parse::<f64>()) {
            (Ok(expected), Ok(came)) => (expected - came).abs() <= TOLERANCE * expected.abs().max(1.0),
            _ => false,
        },
        (Json::List(expected), Json::List(came)) => {
            expected.len() == came.len() && expected.iter().zip(came).all(|(expected, came)| near(expected, came))
        }
        (Json::Object(_), Json::Object(_)) => {
            ["indices", "values"].iter().all(|field| match (expected.get(field), came.get(field)) {
                (Some(expected), Some(came)) => near(expected, came),
                _ => false,
            })
        }
        _ => expected == came,
    }
}
