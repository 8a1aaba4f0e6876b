// A small line without axes; gaps stay gaps.
interface Props {
  values: (number | null)[];
  colour: string;
}

const WIDTH = 168;
const HEIGHT = 26;

export function Sparkline({ values, colour }: Props) {
  const known = values.filter((value): value is number => value !== null);
  const max = Math.max(...known);
  const min = Math.min(...known, max * 0.5);
  const x = (i: number) => (values.length < 2 ? WIDTH / 2 : (i / (values.length - 1)) * WIDTH);
  const y = (value: number) =>
    max === min ? HEIGHT - 3 : HEIGHT - 3 - ((value - min) / (max - min)) * (HEIGHT - 6);
  let path = "";
  values.forEach((value, i) => {
    if (value === null) return;
    const begins = (values[i - 1] ?? null) === null;
    path += `${begins ? "M" : "L"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
    // A value without neighbours is a dot.
    if (begins && (values[i + 1] ?? null) === null) path += "h.01";
  });
  return (
    <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
      {known.length === 0 ? null : (
        <path
          d={path}
          fill="none"
          stroke={`var(--${colour})`}
          strokeWidth="1.4"
          strokeLinecap="round"
          strokeLinejoin="round"
          vectorEffect="non-scaling-stroke"
        />
      )}
    </svg>
  );
}
