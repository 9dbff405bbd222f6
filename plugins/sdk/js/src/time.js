// Dates and times as text, from the numbers in which they travel: RFC 3339, as the SDKs of all languages write it.

const DAY = 86_400_000_000n;

/** `2026-05-01T12:00:00.5Z`; `infinity` and `-infinity` as Postgres writes them. */
export function timestampText(micros) {
  if (micros === 9223372036854775807n) return "infinity";
  if (micros === -9223372036854775808n) return "-infinity";
  let days = micros / DAY;
  let rest = micros % DAY;
  if (rest < 0n) {
    days -= 1n;
    rest += DAY;
  }
  return `${civil(Number(days))}T${timeText(Number(rest))}Z`;
}

/** `2026-05-01`; years beyond 9999 with a plus, before year 0 with a minus, as ISO 8601 has it. */
export function dayText(days) {
  if (days === 2147483647) return "infinity";
  if (days === -2147483648) return "-infinity";
  return civil(days);
}

/** `12:00:00`, with as many digits of a second as are not zero. */
export function timeText(micros) {
  const seconds = Math.floor(micros / 1_000_000);
  const rest = micros - seconds * 1_000_000;
  const text = `${two(Math.floor(seconds / 3600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
  return rest === 0 ? text : `${text}.${String(rest).padStart(6, "0").replace(/0+$/, "")}`;
}

function two(number) {
  return number < 10 ? `0${number}` : String(number);
}

// Years are counted from March, so that the day that some years have more is the last, and months have a length that a
// line through 153/5 gives.
function civil(days) {
  const since = days + 719_468;
  const era = Math.floor(since / 146_097);
  let day = since - era * 146_097;
  const year = Math.floor(
    (day - Math.floor(day / 1460) + Math.floor(day / 36_524) - Math.floor(day / 146_096)) / 365,
  );
  day -= 365 * year + Math.floor(year / 4) - Math.floor(year / 100);
  const month = Math.floor((5 * day + 2) / 153);
  day -= Math.floor((153 * month + 2) / 5) - 1;
  const civilYear = era * 400 + year + (month < 10 ? 0 : 1);
  const size = String(Math.abs(civilYear)).padStart(4, "0");
  const sign = civilYear < 0 ? "-" : civilYear > 9999 ? "+" : "";
  return `${sign}${size}-${two(month < 10 ? month + 3 : month - 9)}-${two(day)}`;
}
