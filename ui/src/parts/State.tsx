// A dot and a sentence.
import type { Sentence } from "../lib/service";

export function State({ of }: { of: Sentence }) {
  return (
    <span className="state" title={of.text} data-testid="state" data-tone={of.tone}>
      <span className={`dot ${of.tone}`} />
      <span className={of.tone === "bad" ? "clip bad" : "clip"}>{of.text}</span>
    </span>
  );
}
