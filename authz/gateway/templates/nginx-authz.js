// The gate between nginx and authz, for njs >= 0.9.9 with nginx >= 1.31 (js_access, readRequestArrayBuffer).
//
// It asks authz about one request, body included, and then either answers as authz says or writes the header
// block that the model server receives, and its body where authz changes that. It keeps no state: everything it
// decides is in variables of the request.

const UNAVAILABLE = JSON.stringify({
    error: {
        message: 'The authorization service is unavailable. Try again shortly.',
        type: 'server_error',
        code: 'authz_unavailable',
        param: null,
    },
});

// What authz answers. Any other status is not an answer of authz, and nothing passes on it.
const ALLOWED = 200;
const REFUSED = [400, 401, 402, 403, 413, 415, 429, 503];

// Headers of authz's own HTTP response: about that connection, not about the request.
const PLUMBING = /^(connection|content-(length|type|encoding)|date|keep-alive|server|trailer|transfer-encoding|vary)$/;

// On an allow, these go onto the client's response; every other header goes to the model server.
const FOR_CLIENT = /^(ratelimit|ratelimit-policy|x-ratelimit-.*|x-request-id|x-authz-max-tokens)$/;

// On an allow, these tell the gateway what to do and go nowhere.
const FOR_GATEWAY = /^x-authz-(backend|body|client-.*|cookie|edit|gateway-.*|remove|status|uri)$/;

// Never copied from the client to the model server: hop-by-hop headers and those that nginx.conf sets itself,
// credentials, whatever claims to come from a gateway, and what asks for a compressed answer, whose usage nobody
// could read. (nginx has dropped names with `_` or `.` before.)
const NOT_FORWARDED = new RegExp('^(' + [
    'connection', 'content-length', 'expect', 'host', 'keep-alive', 'te', 'trailer', 'transfer-encoding', 'upgrade',
    'accept-encoding', 'authorization', 'proxy-.*', 'x-api-key',
    'x.authz.*', 'forwarded', 'x-(forwarded|original|accel)-.*', 'x-client-(cert|verify)', 'x-real-ip', 'x-request-id',
].join('|') + ')$');

// js_access: returns without a word to let the request through, answers it otherwise.
async function access(r) {
    try {
        // Once the body is read, the subrequest and the model server are sent the same bytes.
        const body = await r.readRequestArrayBuffer();
        const answer = await r.subrequest('/_authz', {method: 'POST'});

        if (answer.status === ALLOWED) {
            allow(r, answer, Buffer.from(body));
        } else if (REFUSED.includes(answer.status)) {
            refuse(r, answer);
        } else {
            unavailable(r, 'answer ' + answer.status);
        }
    } catch (e) {
        unavailable(r, e);
    }
}

function refuse(r, answer) {
    grouped(answer).forEach(header => {
        if (!PLUMBING.test(header.key) && !header.key.startsWith('x-authz-')) {
            r.headersOut[header.name] = header.values;
        }
    });
    r.variables.authz_verdict = 'refuse';
    r.headersOut['Content-Type'] = 'application/json';
    r.return(answer.status, answer.responseText);
}

function unavailable(r, why) {
    r.variables.authz_verdict = 'unavailable: ' + why; // for the access log
    r.headersOut['Content-Type'] = 'application/json';
    r.return(503, UNAVAILABLE);
}

function allow(r, answer, body) {
    const told = {remove: [], upstream: []};

    // First of all, so that what is held is given back even if the rest fails.
    r.variables.authz_reservation = answer.headersOut['x-authz-reservation'] || '';
    r.variables.authz_peer = answer.variables.upstream_addr;

    grouped(answer).forEach(header => {
        if (PLUMBING.test(header.key)) {
            return;
        }
        const value = header.values.join(', ');

        if (header.key === 'x-authz-remove') {
            told.remove = value.toLowerCase().split(',').map(name => name.trim());
        } else if (header.key === 'x-authz-cookie') {
            told.upstream.push({name: 'Cookie', value: bytes(answer, 'sent_http_', header.key, value)});
        } else if (header.key === 'x-authz-uri') {
            told.target = value;
        } else if (header.key === 'x-authz-backend') {
            told.backend = value;
        } else if (header.key === 'x-authz-edit') {
            told.edit = value;
        } else if (!FOR_GATEWAY.test(header.key)) {
            if (FOR_CLIENT.test(header.key)) {
                r.headersOut[header.name] = header.values;
            }
            if (!FOR_CLIENT.test(header.key) || header.key === 'x-request-id') { // one id for all who log it
                told.upstream.push({name: header.name, value: bytes(answer, 'sent_http_', header.key, value)});
            }
        }
    });

    const target = told.target || r.variables.authz_request_target;
    if (target[0] !== '/') {
        throw new Error('the target does not begin with a slash');
    }

    r.variables.authz_target = target;
    r.variables.authz_backend = told.backend || '';
    r.variables.authz_headers = headerBlock(r, told);
    if (told.edit) {
        r.variables.authz_body = edited(body, told.edit);
    }
    r.variables.authz_verdict = 'allow';
    if (told.edit) {
        r.internalRedirect('@authz_edited');
    }
}

// The body after authz's change, `LENGTH OFFSET+REMOVE=TEXT ...`: the length of the whole, then for each place in
// ascending order how many bytes there give way to which text. Exactly that, or nothing passes: what is held for
// the request may depend on it.
function edited(body, edit) {
    const words = edit.split(' '), parts = [];
    let at = 0;

    if (words.shift() !== String(body.length)) {
        throw new Error('the body has another length than the change is for');
    }
    words.forEach(word => {
        const splice = /^(\d+)\+(\d+)=(.*)$/.exec(word);
        const from = splice ? Number(splice[1]) : -1, to = splice ? from + Number(splice[2]) : -1;
        if (from < at || to > body.length) {
            throw new Error('the change of the body cannot be read');
        }
        parts.push(body.subarray(at, from), Buffer.from(splice[3]));
        at = to;
    });
    parts.push(body.subarray(at));
    return Buffer.concat(parts);
}

// The client's headers less those not forwarded, removed or replaced, then those that authz sets.
//
// `proxy_set_header` takes no name from a variable, so nginx.conf appends this block, line breaks included, to the
// value of a header that it always sets. Values come from nginx's own parsers and hold neither CR nor LF.
function headerBlock(r, told) {
    const gone = {};
    told.remove.forEach(name => { gone[name] = true; });
    told.upstream.forEach(header => { gone[header.name.toLowerCase()] = true; });

    const parts = [];
    const add = (name, value) => { parts.push(Buffer.from('\r\n' + name + ': '), value); };

    r.rawHeadersIn.forEach(pair => {
        const key = pair[0].toLowerCase(), value = pair[1];
        if (!NOT_FORWARDED.test(key) && !gone[key]) {
            add(pair[0], bytes(r, 'http_', key, value));
            gone[key] = !isText(value); // its bytes came with those of its repetitions
        }
    });
    told.upstream.filter(header => header.value.length).forEach(header => add(header.name, header.value));
    return Buffer.concat(parts);
}

// A header's bytes. njs has decoded them as UTF-8; those that are none are fetched again as they came.
function bytes(request, prefix, key, value) {
    return isText(value) ? Buffer.from(value) : request.rawVariables[prefix + key.replaceAll('-', '_')];
}

function isText(value) {
    return !value.includes('\ufffd');
}

// A response's headers, those of one name together: [{name, key, values}], key in lower case.
function grouped(response) {
    const headers = [], seen = {};

    response.rawHeadersOut.forEach(pair => {
        const key = pair[0].toLowerCase();
        if (!seen[key]) {
            seen[key] = {name: pair[0], key: key, values: []};
            headers.push(seen[key]);
        }
        seen[key].values.push(pair[1]);
    });
    return headers;
}

export default {access};
