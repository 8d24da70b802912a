import { devkit, strings } from './devkit.js';

/** What can be scaffolded; also the suffix of its file and class: `order.workflow.ts`, `OrderWorkflow`. */
export type Kind = 'workflow' | 'flow' | 'step';

/** The spellings of one name: `{ name: 'order', typePrefix: 'Order', className: 'OrderWorkflow' }`. */
export interface ArtifactName {
  name: string;
  typePrefix: string;
  className: string;
}

const VALID_NAME = /^[a-z][a-z0-9]*([-_][a-z0-9]+)*$/;

/**
 * The names of what `given` asks for. The kind is not said twice: `orderWorkflow`, `order-workflow`, `order.workflow`
 * and `order.workflow.ts` all mean `order`.
 *
 * @throws SchematicsException when no valid file and class name can be made of it; it offers the nearest one that can.
 */
export function parseArtifactName(given: string, kind: Kind): ArtifactName {
  const name = withoutKind(toKebabCase(given), kind);
  if (!VALID_NAME.test(name)) {
    throw new devkit.SchematicsException(invalidName(given, name, kind));
  }
  const typePrefix = strings.classify(name);
  return { name, typePrefix, className: `${typePrefix}${strings.capitalize(kind)}` };
}

/** `OrderItem`, `order item` and `orderItem` as `order-item`; `order_item` stays, as in Nest's own schematics. */
export function toKebabCase(text: string): string {
  return text
    .trim()
    .replace(/([a-z\d])([A-Z])/g, '$1-$2')
    .toLowerCase()
    .replace(/\s+/g, '-');
}

function withoutKind(name: string, kind: Kind): string {
  return name.replace(/\.ts$/, '').replace(new RegExp(`(^|[-_.])${kind}$`), '');
}

function invalidName(given: string, name: string, kind: Kind): string {
  const problem =
    name === ''
      ? `"${given}" says only that it is a ${kind}, not which`
      : `"${given}" cannot be the name of a ${kind}: letters, digits and single dashes, starting with a letter`;
  const nearMiss = name.replace(/[^a-z0-9]+/g, '-').replace(/^[^a-z]+|-+$/g, '');
  return `${problem}. ${VALID_NAME.test(nearMiss) ? `Did you mean "${nearMiss}"?` : `For example "order" or "shop/order".`}`;
}
