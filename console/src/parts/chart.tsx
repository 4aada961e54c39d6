/** Points over time, one colour a series: what a table beside it says in figures. */
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

export interface Series {
  label: string;
  /** A variable of the palette, such as `--good`. */
  colour: string;
}

const HEIGHT = 300;

/**
 * @param label What it shows, for who cannot see it.
 * @param data The times in epoch seconds, in their order, and the values of each series at them.
 */
export function Chart({ label, unit, series, data }: { label: string; unit: string; series: Series[]; data: (number | null)[][] }) {
  const place = useRef<HTMLDivElement>(null);
  const drawn = useRef<uPlot>(null);
  const latest = useRef(data);
  latest.current = data;
  useEffect(() => {
    const box = place.current!;
    const colour = (name: string) => resolved(box, name);
    const axis = {
      stroke: () => colour("--faint"),
      grid: { stroke: () => colour("--line"), width: 1 },
      ticks: { stroke: () => colour("--line") },
    };
    const chart = new uPlot(
      {
        width: box.clientWidth,
        height: HEIGHT,
        scales: { y: { range: (_, __, most) => [0, Math.max(10, (most ?? 0) * 1.1)] } },
        axes: [axis, { ...axis, label: unit, labelSize: 20, size: 60 }],
        series: [
          {},
          ...series.map((one) => ({
            label: one.label,
            stroke: () => colour(one.colour),
            paths: () => null,
            points: { show: true, size: 7, fill: () => colour(one.colour) },
            value: (_: uPlot, value: number | null) => (value === null ? "–" : `${Math.round(value)} ${unit}`),
          })),
        ],
      },
      latest.current as uPlot.AlignedData,
      box,
    );
    drawn.current = chart;
    const sized = new ResizeObserver(() => chart.setSize({ width: box.clientWidth, height: HEIGHT }));
    sized.observe(box);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    const again = () => chart.redraw();
    scheme.addEventListener("change", again);
    return () => (sized.disconnect(), scheme.removeEventListener("change", again), chart.destroy());
  }, [unit, JSON.stringify(series)]);
  useEffect(() => drawn.current?.setData(data as uPlot.AlignedData), [data]);
  return <div class="chart" role="img" aria-label={label} ref={place} />;
}

/** A colour of the palette as a canvas takes it. */
function resolved(box: HTMLElement, name: string): string {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  box.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}
