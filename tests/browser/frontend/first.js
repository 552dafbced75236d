// Runs before main.js, and leaves a note of what a page tells before any package looks at it.
window.firstScript = {
	hasArea: document.querySelector('#content > #content') !== null,
	hasGlobals: typeof window.OC === 'object',
}
