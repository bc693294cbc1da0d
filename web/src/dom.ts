// Small helpers for building the page without a framework.

type Child = Node | string | null | false;

/** Makes an element: attributes, then children; a null or false child is left out. */
export function h(tag: string, attributes: Record<string, string>, ...children: Child[]): HTMLElement {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((c): c is Node | string => c !== null && c !== false));
  return element;
}

/** The element with this id, which index.html has. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

const drawn = new WeakMap<HTMLElement, string>();

/**
 * Replaces the children of parent, but only when what they show has changed: a list that is asked for every second
 * must not take the focus away, nor be read aloud again.
 */
export function redraw(parent: HTMLElement, shows: unknown, build: () => HTMLElement[]): void {
  const key = JSON.stringify(shows);
  if (drawn.get(parent) === key) return;
  drawn.set(parent, key);
  parent.replaceChildren(...build());
}
