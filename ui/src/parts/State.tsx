// A dot and a sentence.
import type { Sentence } from "../lib/service";

export function State({ of, whole = false }: { of: Sentence; whole?: boolean }) {
  const text = whole ? of.more : of.text;
  return (
    <span className="state" title={of.more} data-testid="state" data-tone={of.tone}>
      <span className={`dot ${of.tone}`} />
      <span className={of.tone === "bad" ? "clip bad" : "clip"}>{text}</span>
    </span>
  );
}
