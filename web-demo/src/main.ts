import { createApp } from 'vue'
import App from './App.vue'
import { applyPreferences } from './preferences.ts'
import './styles/tokens.css'
import './styles/base.css'
import './styles/sign-in.css'
import './styles/sidebar.css'
import './styles/conversation.css'
import './styles/message.css'
import './styles/overlays.css'
import './styles/presence.css'
import './styles/lab.css'

applyPreferences()
createApp(App).mount('#app')
