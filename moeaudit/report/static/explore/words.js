// How numbers and claims are written: the rules of the rest of the page.
const MINUS = "\u2212";
const DASH = "\u2013";
const has = (x) => typeof x === "number" && Number.isFinite(x);

const fixed = (x, decimals, sign = false) => {
  if (!has(x)) return DASH;
  const text = x.toFixed(decimals);
  if (Number(text) === 0) return text.replace("-", "");
  return (sign && x > 0 ? `+${text}` : text).replace("-", MINUS);
};

// Decimals that show two significant digits of a half-width.
const decimalsFor = (half) =>
  (has(half) && half > 0 ? Math.min(6, Math.max(0, 1 - Math.floor(Math.log10(half)))) : 3);

const significant = (x, digits = 2, sign = false) => {
  if (!has(x)) return DASH;
  if (x === 0) return "0";
  const power = Math.floor(Math.log10(Math.abs(x)));
  if (power >= -4 && power <= 6) return fixed(x, Math.max(0, digits - 1 - power), sign);
  const text = x.toExponential(digits - 1).replace("e+", "e");
  return (sign && x > 0 ? `+${text}` : text).replaceAll("-", MINUS);
};

// Below the last decimal an exponent, so that only 0 reads as 0.
const near = (x, decimals, sign) =>
  (x !== 0 && Number(x.toFixed(decimals)) === 0 ? significant(x, 2, sign) : fixed(x, decimals, sign));

const limits = (low, high, sign = true) => {
  if (!has(low) || !has(high)) return "no limits";
  let decimals = decimalsFor((high - low) / 2);
  // a limit that is not 0 must not read as 0: on which side of it it lies is what counts
  while (decimals < 6 && [low, high].some((x) => x !== 0 && Number(x.toFixed(decimals)) === 0)) decimals += 1;
  return `[${near(low, decimals, sign)}, ${near(high, decimals, sign)}]`;
};

const estimate = (x, low, high, sign = true) => {
  if (!has(x)) return DASH;
  if (!has(low) || !has(high)) return significant(x, 2, sign);
  const decimals = decimalsFor((high - low) / 2);
  return `${(decimals === 6 ? near : fixed)(x, decimals, sign)} ${limits(low, high, sign)}`;
};

const count = (n) => (has(n) ? n.toLocaleString("en-US") : DASH);
const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
const percent = (x, decimals = 1) => (has(x) ? `${fixed(100 * x, decimals)}%` : DASH);
const ordinal = (n) => {
  const tail = n % 100 > 10 && n % 100 < 14 ? "th" : { 1: "st", 2: "nd", 3: "rd" }[n % 10] ?? "th";
  return `${count(n)}${tail}`;
};

// A token's text with line breaks and tabs made visible, and a sign for what cannot be shown.
const visible = (text) =>
  String(text).replace(/\r\n|\n/g, "\u21b2").replaceAll("\t", "\u21e5").replaceAll("\r", "\u240d")
    .replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}]/gu, "\ufffd") || "\u2205";
const quoted = (text) => `\u201c${visible(text)}\u201d`;

// What the limits of a mean harm say; nothing is called safe because it was not shown to harm.
const GRADES = {
  harms: "costs",
  open: "not settled",
  helps: "helps",
  unknown: "no limits",
};
const gradeOf = (low, high) => {
  if (!has(low) || !has(high)) return "unknown";
  if (low > 0) return "harms";
  return high < 0 ? "helps" : "open";
};
const gradeWords = (low, high, one) => {
  const grade = gradeOf(low, high);
  if (grade === "harms") return `The 95% limits, of this expert alone, lie above 0: on text like this a ${one} of it costs something on average.`;
  if (grade === "helps") {
    return `The 95% limits, of this expert alone, lie below 0: on text like this a ${one} of it helps the next prediction on average.`;
  }
  if (grade === "open") {
    return `The 95% limits, of this expert alone, contain 0: whether a ${one} of it costs anything is not settled. A mean harm of up to ${significant(high, 2, true)} nats is not excluded.`;
  }
  return "There are no limits, because too few documents chose it: nothing can be said about its harm.";
};

// How many of `n` limits leave out 0 when nothing is there: 5 in a hundred.
const byChance = (n) => Math.round(0.05 * n);
const chanceWords = (n) =>
  `Each of ${plural(n, "expert")} has limits of its own; by chance alone about 5% of them (${count(byChance(n))}) would leave out 0.`;
