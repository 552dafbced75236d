// A front end as apps write them, made with the packages that Nextcloud publishes for it.
import { getCSPNonce, getCurrentUser, setRequestToken } from '@nextcloud/auth'
import axios from '@nextcloud/axios'
import { loadState } from '@nextcloud/initial-state'
import { getLanguage, getLocale, register, translate } from '@nextcloud/l10n'
import { generateFilePath, generateOcsUrl, generateUrl } from '@nextcloud/router'

const proxy = '/apps/app_api/proxy/embedded_page'

async function collect() {
	const state = JSON.parse(loadState('app_api', 'boot'))
	register('embedded_page', { 'Hello {name}': 'Hallo {name}' })
	const greeting = await axios.get(generateUrl(`${proxy}/api/greeting`))
	const posted = await axios.post(generateUrl(`${proxy}/api/greeting`), { words: state.words })
	const ocs = await axios.get(generateOcsUrl('cloud/user', {}), { params: { format: 'json' } })
	// What happens to a page that was open for so long that its token is none any more.
	setRequestToken('stale:stale')
	const again = await axios.get(generateOcsUrl('cloud/user'), { params: { format: 'json' } })
	const { loaded } = await import(generateFilePath('embedded_page', 'js', 'later.js'))
	return {
		first: window.firstScript,
		state,
		theme: loadState('core', 'capabilities').theming.name,
		area: getComputedStyle(document.body).getPropertyValue('--default-clickable-area'),
		current: getCurrentUser(),
		greeting: greeting.data,
		posted: posted.data,
		ocs: ocs.data.ocs.data.id,
		again: again.data.ocs.data.id,
		loaded,
		language: [getLanguage(), getLocale()],
		translated: translate('embedded_page', 'Hello {name}', { name: 'Jane' }),
		nonce: getCSPNonce() === document.querySelector('script[nonce]').nonce,
		path: window.location.pathname,
	}
}

async function main() {
	const area = document.querySelector('#content > #content')
	const shown = document.createElement('div')
	shown.className = 'greeting'
	try {
		const found = await collect()
		shown.id = 'answered'
		shown.textContent = `Hello ${found.greeting.user}: ${found.state.words.join(', ')}`
		shown.dataset.found = JSON.stringify(found)
	} catch (error) {
		shown.id = 'failed'
		shown.textContent = `${error}\n${error.stack}`
	}
	area.append(shown)
}

main()
