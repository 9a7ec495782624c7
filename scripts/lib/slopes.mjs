// @ts-check
/**
 * How figures grow with the work, as one picture: small multiples, both axes logarithmic, so equal slopes look equal. It
 * has no background and speaks in greys and one blue that are read on light and on dark pages.
 */

/**
 * One point of a curve.
 * @typedef {{ of: string, size: number, sizes: string }} Slope
 * @typedef {{ value: number, unit: string, slope?: Slope, beside?: { what: string, value: number } }} Point
 */

const [WIDTH, HEIGHT, COLUMNS] = [300, 170, 3]
const FRAME = { left: 52, right: 14, top: 34, bottom: 34 }
const [INK, FAINT, LINE] = ['#7d7d7d', '#7d7d7d55', '#3b82d6']

/**
 * The picture of all curves among these figures; `undefined` when there is none.
 * @param {Point[]} figures
 */
export function slopes(figures) {
  /** @type {Map<string, Point[]>} */
  const curves = new Map()
  for (const figure of figures) {
    // A curve on logarithmic axes has no place for nothing.
    if (figure.slope === undefined || figure.value <= 0) continue
    curves.set(figure.slope.of, [...(curves.get(figure.slope.of) ?? []), figure])
  }
  const drawn = [...curves].filter(([, points]) => points.length > 1)
  if (drawn.length === 0) return undefined
  const rows = Math.ceil(drawn.length / COLUMNS)
  const panels = drawn.map(([title, points], index) => panel(title, points, (index % COLUMNS) * WIDTH, Math.floor(index / COLUMNS) * HEIGHT))
  const [width, height] = [WIDTH * Math.min(COLUMNS, drawn.length), HEIGHT * rows]
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" font-family="system-ui, sans-serif" font-size="10" fill="${INK}">
<title>How each figure grows with the work</title>
${panels.join('\n')}
</svg>
`
}

/**
 * @param {string} title
 * @param {Point[]} points
 * @param {number} left
 * @param {number} top
 */
function panel(title, points, left, top) {
  const sorted = points.toSorted((a, b) => (a.slope?.size ?? 0) - (b.slope?.size ?? 0))
  const sizes = sorted.map((point) => point.slope?.size ?? 1)
  const limits = sorted.map((point) => point.beside?.value).filter((value) => value !== undefined && value > 0)
  const values = [...sorted.map((point) => point.value), .../** @type {number[]} */ (limits)]
  const x = scale(sizes, FRAME.left, WIDTH - FRAME.right, 1)
  const y = scale(values, HEIGHT - FRAME.bottom, FRAME.top, 4)
  const path = (/** @type {[number, number][]} */ places) => places.map(([a, b], index) => `${index === 0 ? 'M' : 'L'}${a.toFixed(1)} ${b.toFixed(1)}`).join('')
  const own = sorted.map((point, index) => /** @type {[number, number]} */ ([x(sizes[index] ?? 1), y(point.value)]))
  const beside = sorted.flatMap((point, index) => (point.beside === undefined || point.beside.value <= 0 ? [] : [/** @type {[number, number]} */ ([x(sizes[index] ?? 1), y(point.beside.value)])]))
  const parts = [
    `<text x="8" y="16" font-size="11" font-weight="600">${escape(title)}, ${escape(sorted[0]?.unit ?? '')}</text>`,
    `<path d="M${FRAME.left} ${FRAME.top}V${HEIGHT - FRAME.bottom}H${WIDTH - FRAME.right}" fill="none" stroke="${FAINT}"/>`,
    ...(beside.length > 1 ? [`<path d="${path(beside)}" fill="none" stroke="${INK}" stroke-dasharray="3 3"/>`] : []),
    `<path d="${path(own)}" fill="none" stroke="${LINE}" stroke-width="2"/>`,
    ...own.map(([a, b]) => `<circle cx="${a.toFixed(1)}" cy="${b.toFixed(1)}" r="3" fill="${LINE}"/>`),
    ...sorted.map((point, index) => `<text x="${x(sizes[index] ?? 1).toFixed(1)}" y="${(y(point.value) - 7).toFixed(1)}" text-anchor="${anchor(index, sorted.length)}">${short(point.value)}</text>`),
    ...sizes.map((size, index) => `<text x="${x(size).toFixed(1)}" y="${HEIGHT - FRAME.bottom + 14}" text-anchor="${anchor(index, sizes.length)}">${short(size)}</text>`),
    `<text x="8" y="${HEIGHT - 6}">${escape(sorted[0]?.slope?.sizes ?? '')}${beside.length > 1 ? `; dashed: ${escape(wordsBeside(sorted))}` : ''}</text>`,
  ]
  return `<g transform="translate(${left} ${top})">\n${parts.join('\n')}\n</g>`
}

/** @param {Point[]} points */
function wordsBeside(points) {
  const words = points.find((point) => point.beside !== undefined)?.beside?.what ?? ''
  // What differs from point to point is not the curve's.
  return words.replace(/( of)? \d[\d,]*\b/g, '').replace(/, .*/, '')
}

/**
 * Labels at the ends stay inside of the panel.
 * @param {number} index
 * @param {number} count
 */
function anchor(index, count) {
  if (index === 0) return 'start'
  return index === count - 1 ? 'end' : 'middle'
}

/**
 * Where a value lies, on a logarithmic axis that spans at least this factor.
 * @param {number[]} values
 * @param {number} from
 * @param {number} to
 * @param {number} factor
 */
function scale(values, from, to, factor) {
  const logs = values.map(Math.log10)
  let [low, high] = [Math.min(...logs), Math.max(...logs)]
  const missing = Math.max(0, Math.log10(factor) - (high - low), high === low ? 1 : 0)
  low -= missing / 2
  high += missing / 2
  return (/** @type {number} */ value) => from + ((Math.log10(value) - low) / (high - low)) * (to - from)
}

/** @param {number} value */
function short(value) {
  if (value >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`
  if (value >= 1e4) return `${Number((value / 1e3).toPrecision(3))}k`
  return String(Number(value.toPrecision(3)))
}

/** @param {string} text */
function escape(text) {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
}
