// What a node allows, as `sonde doctor` says it.
import type { Fact, Node } from "../api/rows";

const STANDING: Record<string, { tone: string; word: string }> = {
  good: { tone: "good", word: "works" },
  limited: { tone: "warn", word: "limited" },
  missing: { tone: "bad", word: "missing" },
};

export function standing(fact: Fact): { tone: string; word: string } {
  return (
    (Object.hasOwn(STANDING, fact.standing) ? STANDING[fact.standing] : undefined) ?? {
      tone: "",
      word: String(fact.standing),
    }
  );
}

/** Facts of running nodes without which network capture does not work. */
export function missing(nodes: Node[]): { node: Node; fact: Fact }[] {
  return nodes
    .filter((node) => node.recorded !== true)
    .flatMap((node) =>
      (node.doctor ?? []).filter((fact) => fact.standing === "missing").map((fact) => ({ node, fact })),
    );
}

export function MissingFacts({ nodes }: { nodes: Node[] }) {
  const all = missing(nodes);
  const many = new Set(all.map((one) => one.node.id)).size > 1;
  return (
    <ul className="fact-list">
      {all.map(({ node, fact }) => (
        <li key={`${node.id} ${fact.name}`}>
          <span className="dot bad" />
          <span>
            <span className="mono">{fact.name}</span>
            {many ? ` on ${node.host_name}` : ""}: {fact.found}
          </span>
          {fact.remedy === undefined || fact.remedy === "" ? null : (
            <span className="remedy">{fact.remedy}</span>
          )}
        </li>
      ))}
    </ul>
  );
}
