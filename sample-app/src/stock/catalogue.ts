/** A product as the shop opens with it. Prices are in euro cents. */
export interface CatalogueEntry {
  sku: string;
  name: string;
  cents: number;
  stock: number;
}

export const CATALOGUE = [
  { sku: 'earl-grey', name: 'Earl Grey, 100 g', cents: 690, stock: 2_000 },
  { sku: 'sencha', name: 'Sencha, 100 g', cents: 840, stock: 2_000 },
  { sku: 'rooibos', name: 'Rooibos, 250 g', cents: 990, stock: 2_000 },
  { sku: 'first-flush', name: 'Darjeeling First Flush, 50 g', cents: 1_450, stock: 600 },
  { sku: 'matcha', name: 'Matcha, 30 g tin', cents: 2_400, stock: 600 },
  { sku: 'honey', name: 'Linden honey, 500 g', cents: 870, stock: 800 },
  { sku: 'shortbread', name: 'Shortbread, box of 12', cents: 520, stock: 1_500 },
  { sku: 'infuser', name: 'Steel infuser', cents: 1_190, stock: 500 },
  { sku: 'cup', name: 'Porcelain cup', cents: 1_650, stock: 900 },
  { sku: 'teapot', name: 'Cast-iron teapot', cents: 6_900, stock: 120 },
  { sku: 'kettle', name: 'Gooseneck kettle', cents: 8_950, stock: 80 },
  { sku: 'moon-jar', name: 'Moon jar, thrown by hand', cents: 24_900, stock: 5 },
] as const satisfies CatalogueEntry[];

export const SKUS = CATALOGUE.map(({ sku }) => sku);
