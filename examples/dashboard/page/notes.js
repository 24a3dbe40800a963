// What a panel says of its link, in sentences that claim no more than is known.

const number = new Intl.NumberFormat("en");

/** After these the sequence is another one: what the old one held besides is not told by anything. */
export const beganAnew = ({ reason }) => reason === "reset" || reason === "rewound";

export function toldOf(gap) {
  if (beganAnew(gap)) return `The history began anew (${gap.reason}): what came before cannot be known.`;
  return `Told of a gap (${gap.reason}): some events before ${gap.before} are gone.`;
}

/** What a resume brought; `gap`: what it was told is missing, if anything. */
export function caughtUp({ events, took, lost, repeats, gap }) {
  const brought = `aught up ${number.format(events)} in ${Math.max(1, Math.round(took))} ms`;
  const faults = lost + repeats > 0 && `${number.format(lost)} lost, ${number.format(repeats)} repeated`;
  if (!gap) return events ? `C${brought}: ${faults || "none lost, none twice"}.` : "Nothing was published while it was away.";
  if (!events && !faults) return toldOf(gap);
  return `${toldOf(gap)} Since then c${brought}${faults ? `: ${faults}` : ""}.`;
}
