/** Money, from the whole minor units that the API has. */

/** By ISO 4217, how many decimal digits a minor unit is where these are not two.
 *
 * As `recourse/declare/money.py` has them: what the browser itself would show (CLDR) has fewer for
 * some, and an amount of them would be shown a hundred times too large.
 */
const DIGITS: Record<number, string> = {
  0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
  3: "BHD IQD JOD KWD LYD OMR TND",
  4: "CLF UYW",
};
const UNUSUAL = new Map(Object.entries(DIGITS).flatMap(([digits, codes]) => codes.split(" ").map((code) => [code, Number(digits)] as const)));

/** An amount of minor units as people write it; `480000 XX` where there is no such currency. */
export function money(amount: number, currency: string): string {
  const digits = UNUSUAL.get(currency) ?? 2;
  try {
    const shown = { style: "currency", currency, minimumFractionDigits: digits, maximumFractionDigits: digits } as const;
    return new Intl.NumberFormat(undefined, shown).format(amount / 10 ** digits);
  } catch {
    return `${amount} ${currency}`;
  }
}
